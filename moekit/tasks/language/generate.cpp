#include "moekit/tasks/language/generate.h"

#include <torch/types.h>

#include <set>

#include "moekit/core/error.h"
#include "moekit/models/decoder_io.h"
#include "moekit/models/text_generation.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/packing.h"
#include "moekit/tasks/language/text_data.h"
#include "moekit/tensor/arithmetic.h"

namespace moekit::language {
namespace fs = std::filesystem;
namespace {

torch::Tensor row_of(const std::vector<int32_t>& ids) {
  return torch::tensor(ids, torch::kInt).to(torch::kLong).unsqueeze(0);
}

}  // namespace

Json generate(const fs::path& run, const text::GenerationOptions& options,
              const std::string& weights, const std::function<void(std::string_view)>& sink) {
  text::check_options(options);
  const torch::NoGradGuard no_grad;
  tensor::start_arithmetic(read_config(run).threads);
  auto model = models::load_decoder(run / "model");
  const auto tokenizer = text::Tokenizer::load(run / "tokenizer.json");
  MOEKIT_CHECK_FORMAT(tokenizer.vocabulary_size() == model->vocabulary_size(),
                      (run / "tokenizer.json").string(), ": has ", tokenizer.vocabulary_size(),
                      " tokens; the model ", model->vocabulary_size());
  const auto end = tokenizer.id_of(kEndOfText);
  std::vector<int32_t> ids;
  if (end) ids.push_back(*end);  // texts begin with it, see DomainTokens
  const auto prompt = tokenizer.encode(options.prompt);
  ids.insert(ids.end(), prompt.begin(), prompt.end());
  MOEKIT_CHECK(!ids.empty(), "--prompt: gives no token, and this tokenizer has none that begins a ",
               "text");
  const int64_t context = model->config().context;
  const auto known = static_cast<int64_t>(ids.size());
  MOEKIT_CHECK(known + options.tokens <= context, "--tokens ", options.tokens, ": with ", known,
               " of the prompt they are more than the model's context of ", context);
  // A capacity is of the tokens of a call: of a prompt it would drop what token by token it does
  // not.
  for (const auto& module : model->modules()) {
    if (auto* moe = module->as<nn::MoEImpl>()) moe->options.capacity({});
  }
  if (!weights.empty()) {
    about(concat("--weights ", weights),
          [&] { nn::pack_networks(*model, kernels::parse_weight_format(weights)); });
  }
  models::DecoderCache cache(model->config(), 1, known + options.tokens);
  std::set<int32_t> ends;
  if (end) ends.insert(*end);
  return models::generate_text(
      tokenizer, ids, ends, options,
      [&](const std::vector<int32_t>& next) {
        return model->forward_cached(row_of(next), {}, cache).logits[0][-1];
      },
      sink);
}

}  // namespace moekit::language
