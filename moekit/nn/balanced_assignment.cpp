#include "moekit/nn/balanced_assignment.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

// Of the released code: an expert that holds a token keeps it for so many rounds unless another one
// bids more, and what a bid is at least.
constexpr int kRoundsWithHolders = 100;
constexpr double kStepsOfRange = 50;
constexpr double kLeastStep = 1e-4;
// Without holders prices rise round by round until all are sold. This many are not needed; a limit
// is, for scores no one thought of.
constexpr int kMostRounds = 100'000;

}  // namespace

torch::Tensor balanced_assignment(const torch::Tensor& scores) {
  MOEKIT_CHECK(scores.dim() == 2 && scores.size(1) >= 1,
               "balanced_assignment: scores must be [T, E]; got ", scores.sizes());
  const int64_t tokens = scores.size(0);
  const int64_t experts = scores.size(1);
  MOEKIT_CHECK(tokens % experts == 0, "balanced_assignment: ", tokens,
               " tokens cannot be dealt out evenly to ", experts, " experts");
  auto out = torch::zeros({tokens}, torch::kLong);
  if (tokens == 0 || experts == 1) return out;
  const auto each = static_cast<size_t>(tokens / experts);
  // [E][T]: experts look at all tokens.
  const auto table = scores.detach().to(torch::kFloat64).t().contiguous();
  const auto finite = table.masked_select(torch::isfinite(table));
  const double least = finite.numel() > 0 ? finite.min().item<double>() : 0;
  const double range = finite.numel() > 0 ? finite.max().item<double>() - least : 0;
  const double step = std::max(range / kStepsOfRange, kLeastStep);
  const auto score = torch::where(torch::isfinite(table), table, torch::full_like(table, least));
  const auto* s = score.data_ptr<double>();
  const auto count = static_cast<size_t>(tokens);
  std::vector<double> price(count, 0);
  std::vector<int64_t> holder(count, -1);
  std::vector<double> best(count);
  std::vector<int64_t> bidder(count);
  std::vector<std::vector<size_t>> wanted(static_cast<size_t>(experts));
  for (int round = 0; round < kMostRounds; ++round) {
    const bool hold = round < kRoundsWithHolders;
    std::fill(best.begin(), best.end(), 0.0);
    std::fill(bidder.begin(), bidder.end(), int64_t{-1});
    for (int64_t e = 0; e < experts; ++e) {
      const auto value = [&](size_t t) {
        if (hold && holder[t] == e) return least + range;
        return s[static_cast<size_t>(e) * count + t] - price[t];
      };
      auto& order = wanted[static_cast<size_t>(e)];
      order.resize(count);
      std::iota(order.begin(), order.end(), size_t{0});
      // The best ones and the next, of equal ones the first.
      std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(each) + 1,
                        order.end(), [&](size_t a, size_t b) {
                          const double va = value(a);
                          const double vb = value(b);
                          return va != vb ? va > vb : a < b;
                        });
      const double next = value(order[each]);
      order.resize(each);
      for (const size_t t : order) {
        double bid = value(t) - next + step;
        if (hold && holder[t] == e) bid = step;
        if (bid > best[t]) {
          best[t] = bid;
          bidder[t] = e;
        }
      }
    }
    // As many bids as tokens: where each has one, they are the assignment.
    if (std::find(bidder.begin(), bidder.end(), -1) == bidder.end()) break;
    for (size_t t = 0; t < count; ++t) {
      price[t] += best[t];
      if (bidder[t] >= 0) holder[t] = bidder[t];
    }
    MOEKIT_CHECK(round + 1 < kMostRounds, "balanced_assignment: found none for these scores");
  }
  for (int64_t e = 0; e < experts; ++e) {
    for (const size_t t : wanted[static_cast<size_t>(e)]) {
      out.data_ptr<int64_t>()[t] = e;
    }
  }
  return out;
}

}  // namespace moekit::nn
