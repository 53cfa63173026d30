#include "moekit/kernels/common/top_k.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

template <typename Score>
bool is_before(Score a, Score b) {
  return a > b || (std::isnan(a) && !std::isnan(b));
}

/// So many are put in their places one by one: a heap of all experts takes longer.
constexpr std::int64_t kFew = 16;

/// The first k, 1..num_experts: each expert is put before those that it comes before.
template <typename Score>
void find_few(const Score* scores, std::int64_t num_experts, std::int64_t k, std::int64_t* index) {
  std::int64_t found = 0;
  for (std::int64_t e = 0; e < num_experts; ++e) {
    if (found == k && !is_before(scores[e], scores[index[k - 1]])) continue;
    std::int64_t place = found < k ? found++ : k - 1;
    for (; place > 0 && is_before(scores[e], scores[index[place - 1]]); --place) {
      index[place] = index[place - 1];
    }
    index[place] = e;
  }
}

template <typename Score>
void find_top_k(const Score* scores, std::int64_t num_tokens, std::int64_t num_experts,
                std::int64_t k, std::int64_t* index) {
  MOEKIT_CHECK(k >= 0 && k <= num_experts, "top_k: K must be 0..", num_experts, "; got ", k);
  if (k == 0) return;
  std::vector<std::int64_t> order(static_cast<std::size_t>(k <= kFew ? 0 : num_experts));
  for (std::int64_t n = 0; n < num_tokens; ++n, scores += num_experts, index += k) {
    if (k <= kFew) {
      find_few(scores, num_experts, k, index);
      continue;
    }
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::partial_sort(order.begin(), order.begin() + k, order.end(),
                      [scores](std::int64_t a, std::int64_t b) {
                        if (is_before(scores[a], scores[b])) return true;
                        return !is_before(scores[b], scores[a]) && a < b;
                      });
    std::copy_n(order.begin(), k, index);
  }
}

}  // namespace

void top_k(const float* scores, std::int64_t num_tokens, std::int64_t num_experts,
           std::int64_t top_k, std::int64_t* index) {
  find_top_k(scores, num_tokens, num_experts, top_k, index);
}

void top_k(const double* scores, std::int64_t num_tokens, std::int64_t num_experts,
           std::int64_t top_k, std::int64_t* index) {
  find_top_k(scores, num_tokens, num_experts, top_k, index);
}

}  // namespace moekit::kernels
