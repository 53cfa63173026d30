#include "moekit/tasks/language/generate.h"

#include <torch/types.h>

#include <chrono>
#include <random>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/models/decoder_io.h"
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
  std::mt19937_64 generator(derive_seed(static_cast<uint64_t>(options.seed), "generate"));
  text::TextStream stream(options.stop);
  std::vector<int32_t> made;
  std::string text;
  std::string ended_by = "tokens";
  const auto give = [&](const std::string& piece) {
    text += piece;
    if (!piece.empty()) sink(piece);
  };
  const auto start = std::chrono::steady_clock::now();
  auto logits = model->forward_cached(row_of(ids), {}, cache).logits;
  while (true) {
    const auto last = logits[0][-1].contiguous();
    const auto* values = last.data_ptr<float>();
    const double uniform = uniform_unit(generator);
    const auto next =
        static_cast<int32_t>(text::choose_token({values, values + last.numel()}, options, uniform));
    if (end && next == *end) {
      ended_by = "end of text";
      break;
    }
    made.push_back(next);
    give(stream.next(tokenizer.decode_bytes(made)));
    if (stream.stopped()) {
      ended_by = "stop";
      break;
    }
    if (static_cast<int64_t>(made.size()) == options.tokens) break;
    logits = model->forward_cached(row_of({next}), {}, cache).logits;
  }
  give(stream.finish(tokenizer.decode_bytes(made)));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {{"text", text},
          {"prompt_tokens", known},
          {"tokens", static_cast<int64_t>(made.size())},
          {"ended_by", ended_by},
          {"tokens_per_second", static_cast<double>(made.size()) / std::max(seconds, 1e-9)}};
}

}  // namespace moekit::language
