#include "moekit/models/text_generation.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <string>

#include "moekit/core/random.h"

namespace moekit::models {

Json generate_text(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                   const std::set<int32_t>& ends, const text::GenerationOptions& options,
                   const NextLogits& next_logits,
                   const std::function<void(std::string_view)>& sink) {
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
  auto logits = next_logits(ids);
  while (true) {
    const auto last = logits.contiguous();
    const auto* values = last.data_ptr<float>();
    const double uniform = uniform_unit(generator);
    const auto next =
        static_cast<int32_t>(text::choose_token({values, values + last.numel()}, options, uniform));
    if (ends.count(next) != 0) {
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
    logits = next_logits({next});
  }
  give(stream.finish(tokenizer.decode_bytes(made)));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return {{"text", text},
          {"prompt_tokens", static_cast<int64_t>(ids.size())},
          {"tokens", static_cast<int64_t>(made.size())},
          {"ended_by", ended_by},
          {"tokens_per_second", static_cast<double>(made.size()) / std::max(seconds, 1e-9)}};
}

}  // namespace moekit::models
