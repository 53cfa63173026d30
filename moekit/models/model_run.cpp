#include "moekit/models/model_run.h"

#include <torch/torch.h>

#include <set>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/models/loaded_model.h"
#include "moekit/models/text_generation.h"
#include "moekit/published/families.h"

namespace moekit::models {
namespace {
namespace fs = std::filesystem;

/// Tokens that end a text: eos_token_id of generation_config.json, else of config.json; a number or
/// several.
std::set<int32_t> ends_of(const fs::path& folder, int64_t vocabulary_size) {
  constexpr const char* kKey = "eos_token_id";
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (!fs::exists(folder / name)) continue;
    const published::ConfigFile config(folder / name);
    if (!config.has(kKey)) continue;
    const auto ids = config.is_list(kKey) ? config.integers(kKey)
                                          : std::vector<int64_t>{config.integer(kKey, {}, 0)};
    std::set<int32_t> out;
    for (const auto id : ids) {
      if (id < 0 || id >= vocabulary_size) {
        config.refuse(kKey, concat("is not one of the vocabulary's ", vocabulary_size, " tokens"));
      }
      out.insert(static_cast<int32_t>(id));
    }
    return out;
  }
  return {};
}

}  // namespace

Json run_model(const fs::path& folder, const text::GenerationOptions& options,
               const std::string& weights, const std::function<void(std::string_view)>& sink) {
  text::check_options(options);
  const torch::NoGradGuard no_grad;
  const auto architecture = published::read_architecture(folder);
  const auto tokenizer = load_tokenizer(folder, architecture);
  const auto vocabulary = architecture.vocabulary_size;
  const auto ids = tokenizer.encode(options.prompt, true);
  MOEKIT_CHECK(!ids.empty(), "--prompt: gives no token, and this tokenizer has none that begins a ",
               "text");
  const auto known = static_cast<int64_t>(ids.size());
  const auto context = architecture.context;
  MOEKIT_CHECK(context == 0 || known + options.tokens <= context, "--tokens ", options.tokens,
               ": with ", known, " of the prompt they are more than the model's context of ",
               context);
  const auto ends = ends_of(folder, vocabulary);
  auto model = load_published(folder, weights);
  TransformerCache cache(model->architecture(), 1, known + options.tokens);
  return generate_text(
      tokenizer, ids, ends, options,
      [&](const std::vector<int32_t>& next) {
        const auto row = torch::tensor(next, torch::kInt).to(torch::kLong).unsqueeze(0);
        // Tokens that the tokenizer has not are never chosen.
        return model->forward_cached(row, cache)
            .logits[0][-1]
            .narrow(0, 0, tokenizer.vocabulary_size());
      },
      sink);
}

}  // namespace moekit::models
