#include "moekit/models/model_eval.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/models/loaded_model.h"
#include "moekit/published/families.h"

namespace moekit::models {
namespace {
namespace fs = std::filesystem;

struct Domain {
  std::string name;
  std::vector<int32_t> ids;
  std::string text;
};

/// Bytes of the tokens that are foretold: all of a window's but its first.
int64_t foretold_bytes(const text::Tokenizer& tokenizer, std::span<const int32_t> window) {
  return static_cast<int64_t>(tokenizer.decode_bytes(window).size()) -
         static_cast<int64_t>(tokenizer.decode_bytes(window.first(1)).size());
}

Json figures(const std::string& name, int64_t tokens, int64_t bytes, double nats) {
  const double loss = nats / static_cast<double>(tokens);
  Json out;
  out["name"] = name;
  out["tokens"] = tokens;
  out["bytes"] = bytes;
  out["loss"] = loss;
  out["perplexity"] = std::exp(loss);
  out["bits_per_byte"] = nats / std::numbers::ln2 / static_cast<double>(bytes);
  return out;
}

}  // namespace

Json eval_model(const fs::path& folder, const std::vector<fs::path>& texts, int64_t window,
                const std::function<void(int64_t done, int64_t total)>& progress) {
  const torch::NoGradGuard no_grad;
  MOEKIT_CHECK(!texts.empty(), "eval: a published model is judged on texts: --text FILE");
  const auto architecture = published::read_architecture(folder);
  const auto tokenizer = load_tokenizer(folder, architecture);
  constexpr int64_t kWindow = 1024;
  const auto context = architecture.context > 0 ? architecture.context : kWindow;
  MOEKIT_CHECK(window == 0 || (window >= 2 && window <= context), "--window ", window,
               ": must be 2..", context, ", the model's context");
  if (window == 0) window = std::min(context, kWindow);
  std::vector<Domain> domains;
  int64_t total = 0;
  for (const auto& path : texts) {
    auto text = read_file(path);
    auto ids = about(path.string(), [&] { return tokenizer.encode(text); });
    MOEKIT_CHECK_FORMAT(ids.size() >= 2, path.string(), ": ", ids.size(),
                        " token(s), of which none can be foretold");
    total += (static_cast<int64_t>(ids.size()) + window - 1) / window;
    domains.push_back({path.stem().string(), std::move(ids), std::move(text)});
  }
  auto model = load_published(folder);
  Json out;
  out["window"] = window;
  out["domains"] = Json::array();
  int64_t done = 0;
  double mean_loss = 0;
  double mean_bits = 0;
  for (const auto& domain : domains) {
    double nats = 0;
    int64_t tokens = 0;
    int64_t bytes = 0;
    const auto size = static_cast<int64_t>(domain.ids.size());
    for (int64_t begin = 0; begin < size; begin += window) {
      const auto count = std::min(window, size - begin);
      progress(done++, total);
      if (count < 2) continue;  // a single token at the end
      const std::span<const int32_t> part(domain.ids.data() + begin, static_cast<size_t>(count));
      const auto ids = torch::tensor(std::vector<int32_t>(part.begin(), part.end()), torch::kInt)
                           .to(torch::kLong)
                           .unsqueeze(0);
      const auto logits = model->forward(ids).logits[0].narrow(0, 0, count - 1);
      nats +=
          torch::cross_entropy_loss(logits, ids[0].narrow(0, 1, count - 1), {}, at::Reduction::Sum)
              .item<double>();
      tokens += count - 1;
      bytes += foretold_bytes(tokenizer, part);
    }
    out["domains"].push_back(figures(domain.name, tokens, bytes, nats));
    mean_loss += out["domains"].back()["loss"].get<double>();
    mean_bits += out["domains"].back()["bits_per_byte"].get<double>();
  }
  const auto count = static_cast<double>(domains.size());
  out["mean"] = {{"loss", mean_loss / count}, {"bits_per_byte", mean_bits / count}};
  return out;
}

}  // namespace moekit::models
