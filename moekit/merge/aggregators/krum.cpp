#include "moekit/merge/aggregators/krum.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>

namespace moekit::merge {

Mixture Krum::mix(const WeightRows& rows) const {
  const int64_t count = rows.size();
  if (count == 1) return {{1}, 0, {}};
  const int64_t most = std::max<int64_t>((count - 3) / 2, 0);
  const int64_t byzantine = options_.byzantine > 0 ? options_.byzantine : most;
  const int64_t neighbours = std::clamp<int64_t>(count - byzantine - 2, 1, count - 1);
  std::vector<std::vector<double>> others(static_cast<size_t>(count));
  for (int64_t a = 0; a < count; ++a) {
    for (int64_t b = 0; b < a; ++b) {
      const auto difference = rows.models[a] - rows.models[b];
      const double distance = difference.dot(difference).item<double>();
      others[static_cast<size_t>(a)].push_back(distance);
      others[static_cast<size_t>(b)].push_back(distance);
    }
  }
  std::vector<double> scores;
  for (auto& distances : others) {
    std::sort(distances.begin(), distances.end());
    scores.push_back(std::accumulate(distances.begin(), distances.begin() + neighbours, 0.0));
  }
  return {shares_of_least(scores), 0, {}};
}

void check_krum(const KrumOptions& options, const AggregateSite& site, const std::string& where) {
  MOEKIT_CHECK(options.byzantine == 0 || 2 * options.byzantine + 2 < site.models, where,
               ".byzantine = ", options.byzantine, ": of the ", site.models,
               " models of a round Krum stands at most ",
               std::max<int64_t>((site.models - 3) / 2, 0), " attackers");
}

std::unique_ptr<Aggregator> make_krum(const KrumOptions& options, const AggregateSite&) {
  return std::make_unique<Krum>(options);
}

}  // namespace moekit::merge
