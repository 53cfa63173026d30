#include "moekit/models/model_trace.h"

#include <torch/torch.h>

#include <algorithm>
#include <string>
#include <vector>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/safetensors.h"
#include "moekit/core/error.h"
#include "moekit/core/json.h"
#include "moekit/models/loaded_model.h"
#include "moekit/published/families.h"

namespace moekit::models {
namespace {

/// Rows of whole numbers, all of one length.
class IdsFile {
 public:
  explicit IdsFile(const std::filesystem::path& path)
      : where_(path.string()), values_(read_json(path)) {
    MOEKIT_CHECK_FORMAT(values_.is_object(), where_, ": no JSON object");
  }

  torch::Tensor rows(const Json& of, const std::string& key, int64_t end) const {
    MOEKIT_CHECK_FORMAT(
        of.is_object() && of.contains(key) && of[key].is_array() && !of[key].empty(), where_, ": ",
        key, ": rows of whole numbers are wanted");
    std::vector<int64_t> values;
    const auto& rows = of[key];
    for (const auto& row : rows) {
      MOEKIT_CHECK_FORMAT(row.is_array() && !row.empty() && row.size() == rows[0].size(), where_,
                          ": ", key, ": rows of one length, not empty, are wanted");
      for (const auto& id : row) {
        const bool whole =
            id.is_number_unsigned() && id.get<uint64_t>() < static_cast<uint64_t>(end);
        MOEKIT_CHECK_FORMAT(whole, where_, ": ", key, ": ", dump_text(id), " is not one of 0..",
                            end - 1);
        values.push_back(id.get<int64_t>());
      }
    }
    return torch::tensor(values, torch::kLong).view({static_cast<int64_t>(rows.size()), -1});
  }

  const Json& values() const { return values_; }
  const std::string& where() const { return where_; }

 private:
  std::string where_;
  Json values_;
};

struct Generated {
  torch::Tensor ids;     ///< [B, n] int32
  torch::Tensor logits;  ///< [B, n, V]
};

/// Each token the likeliest after all before it. Padded texts are computed anew for every token.
Generated generate(TransformerImpl& model, torch::Tensor ids, torch::Tensor mask, int64_t count) {
  const auto given = ids.size(1);
  std::vector<torch::Tensor> logits;
  TransformerCache cache(model.architecture(), ids.size(0), given + count);
  auto added = ids;
  for (int64_t i = 0; i < count; ++i) {
    const auto pass =
        mask.defined() ? model.forward(ids, mask) : model.forward_cached(added, cache);
    logits.push_back(pass.logits.select(1, pass.logits.size(1) - 1));
    added = logits.back().argmax(1, true);
    ids = torch::cat({ids, added}, 1);
    if (mask.defined()) mask = torch::cat({mask, torch::ones_like(added, torch::kBool)}, 1);
  }
  return {ids.narrow(1, given, count).to(torch::kInt32), torch::stack(logits, 1)};
}

void add_pass(checkpoint::MemoryTensors& out, const TransformerOutput& pass,
              const torch::Tensor& ids) {
  const auto add = [&](const std::string& name, const torch::Tensor& values) {
    out.add(name, values.contiguous());
  };
  for (size_t l = 0; l < pass.hidden.size(); ++l) add(concat("hidden.", l), pass.hidden[l]);
  add("final_norm", pass.normalised);
  add("logits", pass.logits);
  if (ids.size(1) > 1) {
    const auto last = ids.size(1) - 1;
    const auto loss = torch::cross_entropy_loss(pass.logits.narrow(1, 0, last).flatten(0, 1),
                                                ids.narrow(1, 1, last).flatten());
    add("loss", loss.view({1}));
  }
  for (const auto& mixture : pass.mixtures) {
    const auto l = concat(".", mixture.layer);
    const auto& routing = mixture.routing;
    const auto [index, order] = routing.expert_index.sort(1);
    add("moe_in" + l, mixture.input);
    add("moe_out" + l, mixture.output);
    add("router_logits" + l, routing.logits);
    add("experts" + l, index.to(torch::kInt32));
    add("weights" + l, routing.weight.view_as(index).gather(1, order));
  }
}

/// Where a trace must not go: onto what it is made of, or where nothing can be written.
void check_output(const std::filesystem::path& model, const std::filesystem::path& ids,
                  const std::filesystem::path& output) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  MOEKIT_CHECK(fs::is_directory(folder, error), "--output ", output.string(),
               ": there is no folder ", folder.string());
  MOEKIT_CHECK(!fs::is_directory(output, error), "--output ", output.string(), ": is a folder");
  MOEKIT_CHECK(!fs::equivalent(folder, model, error) && !fs::equivalent(output, ids, error),
               "--output ", output.string(),
               ": would write into the model's folder or over the ids");
}

}  // namespace

void write_model_trace(const std::filesystem::path& model_path, const std::filesystem::path& ids,
                       const std::filesystem::path& output) {
  const torch::NoGradGuard no_grad;
  check_output(model_path, ids, output);
  const IdsFile file(ids);
  const auto architecture = published::read_architecture(model_path);
  const auto vocabulary = architecture.vocabulary_size;
  const auto texts = file.rows(file.values(), "input_ids", vocabulary);
  torch::Tensor padded;
  torch::Tensor mask;
  if (file.values().contains("padded")) {
    padded = file.rows(file.values()["padded"], "input_ids", vocabulary);
    mask = file.rows(file.values()["padded"], "attention_mask", 2).to(torch::kBool);
  }
  int64_t count = 0;
  if (file.values().contains("new_tokens")) {
    const auto& wanted = file.values()["new_tokens"];
    constexpr int64_t kMost = 1 << 20;
    MOEKIT_CHECK_FORMAT(wanted.is_number_integer() && wanted >= 0 && wanted <= kMost, file.where(),
                        ": new_tokens = ", dump_text(wanted), ": must be 0..", kMost);
    count = wanted.get<int64_t>();
  }
  const auto longest = std::max(texts.size(1), padded.defined() ? padded.size(1) : 0) + count;
  MOEKIT_CHECK_FORMAT(architecture.context == 0 || longest <= architecture.context, file.where(),
                      ": ", longest, " tokens with the new ones, more than the context of ",
                      architecture.context, " in ", architecture.where);
  auto model = load_published(model_path);
  checkpoint::MemoryTensors out;
  add_pass(out, model->forward(texts), texts);
  if (count > 0) {
    const auto made = generate(*model, texts, {}, count);
    out.add("generated", made.ids);
    out.add("generated_logits", made.logits);
  }
  if (padded.defined()) {
    out.add("padded.logits", model->forward(padded, mask).logits);
    if (count > 0) out.add("padded.generated", generate(*model, padded, mask, count).ids);
  }
  checkpoint::write_safetensors(output, out);
}

}  // namespace moekit::models
