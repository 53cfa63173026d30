#include "moekit/text/generation.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "moekit/core/error.h"
#include "moekit/text/utf8.h"

namespace moekit::text {
namespace {

/// Bytes at the end of a text that may be the beginning of a stop string.
std::size_t held_back(std::string_view text, const std::vector<std::string>& stop) {
  std::size_t most = 0;
  for (const std::string_view word : stop) {
    const std::size_t longest = std::min(word.size() - 1, text.size());
    for (std::size_t n = longest; n > most; --n) {
      if (text.substr(text.size() - n) == word.substr(0, n)) most = n;
    }
  }
  return most;
}

/// Bytes at the end that begin a character which is not whole yet.
std::size_t unfinished(std::string_view text) {
  for (std::size_t n = 1; n <= std::min<std::size_t>(3, text.size()); ++n) {
    const auto byte = static_cast<unsigned char>(text[text.size() - n]);
    if (byte < 0x80) return 0;
    if (byte >= 0xC2 && byte < 0xF5) return character_bytes(text[text.size() - n]) > n ? n : 0;
  }
  return 0;
}

}  // namespace

void check_options(const GenerationOptions& o) {
  MOEKIT_CHECK(o.tokens >= 1, "--tokens must be at least 1; got ", o.tokens);
  MOEKIT_CHECK(std::isfinite(o.temperature) && o.temperature >= 0,
               "--temperature must be a finite number from 0; got ", o.temperature);
  MOEKIT_CHECK(o.top_k >= 0, "--top-k must be at least 0; got ", o.top_k);
  MOEKIT_CHECK(o.top_p > 0 && o.top_p <= 1, "--top-p must be above 0 and at most 1; got ", o.top_p);
  MOEKIT_CHECK(o.temperature > 0 || (o.top_k == 0 && o.top_p == 1),
               "--top-k and --top-p have no effect with --temperature 0, which takes the likeliest "
               "token");
  for (const auto& word : o.stop) MOEKIT_CHECK(!word.empty(), "--stop: the text is empty");
}

std::int64_t choose_token(const std::vector<float>& logits, const GenerationOptions& options,
                          double uniform) {
  MOEKIT_CHECK(!logits.empty(), "choose_token: there are no logits");
  MOEKIT_CHECK(std::all_of(logits.begin(), logits.end(), [](float l) { return std::isfinite(l); }),
               "choose_token: a logit is not finite");
  const auto likeliest = std::max_element(logits.begin(), logits.end()) - logits.begin();
  if (options.temperature == 0) return likeliest;
  std::vector<std::int64_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  const auto logit = [&](std::int64_t i) { return logits[static_cast<std::size_t>(i)]; };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return logit(a) > logit(b); });
  if (options.top_k > 0) {
    order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  }
  std::vector<double> share;
  for (const auto i : order) {
    share.push_back(
        std::exp((static_cast<double>(logit(i)) - logit(likeliest)) / options.temperature));
  }
  double total = std::accumulate(share.begin(), share.end(), 0.0);
  if (options.top_p < 1) {
    std::size_t kept = 0;
    double sum = 0;
    while (kept < share.size() && sum < options.top_p * total) sum += share[kept++];
    share.resize(std::max<std::size_t>(kept, 1));
    total = std::accumulate(share.begin(), share.end(), 0.0);
  }
  double at = uniform * total;
  for (std::size_t i = 0; i + 1 < share.size(); ++i) {
    if (at < share[i]) return order[i];
    at -= share[i];
  }
  return order[share.size() - 1];
}

std::string TextStream::next(std::string_view bytes) {
  if (stopped_) return {};
  std::size_t end = bytes.size();
  for (const auto& word : stop_) {
    if (const auto at = bytes.find(word, given_); at != std::string_view::npos) {
      end = std::min(end, at);
      stopped_ = true;
    }
  }
  if (!stopped_) {
    end -= held_back(bytes.substr(given_), stop_);
    end -= unfinished(bytes.substr(given_, end - given_));
  }
  const std::size_t begin = std::exchange(given_, end);
  return with_replacements(bytes.substr(begin, end - begin));
}

std::string TextStream::finish(std::string_view bytes) {
  if (stopped_) return {};
  const std::size_t begin = std::exchange(given_, bytes.size());
  return with_replacements(bytes.substr(begin));
}

}  // namespace moekit::text
