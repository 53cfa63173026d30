#include "moekit/compress/grouping.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "moekit/core/error.h"

namespace moekit::compress {
namespace {

using Group = std::vector<int64_t>;

double alike(const Group& a, const Group& b, const torch::TensorAccessor<double, 2>& similarity,
             Linkage linkage) {
  double sum = 0;
  double least = std::numeric_limits<double>::infinity();
  double most = -least;
  for (const int64_t i : a) {
    for (const int64_t j : b) {
      const double value = similarity[i][j];
      const double known = std::isnan(value) ? -std::numeric_limits<double>::infinity() : value;
      sum += known;
      least = std::min(least, known);
      most = std::max(most, known);
    }
  }
  if (linkage == Linkage::kComplete) return least;
  if (linkage == Linkage::kSingle) return most;
  return sum / static_cast<double>(a.size() * b.size());
}

}  // namespace

std::vector<Group> group_experts(const torch::Tensor& similarity, int64_t count, Linkage linkage) {
  MOEKIT_CHECK(similarity.dim() == 2 && similarity.size(0) == similarity.size(1),
               "group_experts: wanted a similarity [E, E]; got ", similarity.sizes());
  const int64_t experts = similarity.size(0);
  MOEKIT_CHECK(count >= 1 && count <= experts, "group_experts: ", count, " groups of ", experts,
               " experts");
  const auto values = similarity.to(torch::kFloat64).contiguous();
  const auto at = values.accessor<double, 2>();
  std::vector<Group> groups;
  for (int64_t e = 0; e < experts; ++e) groups.push_back({e});
  while (static_cast<int64_t>(groups.size()) > count) {
    size_t first = 0;
    size_t second = 1;
    double best = alike(groups[0], groups[1], at, linkage);
    for (size_t i = 0; i < groups.size(); ++i) {
      for (size_t j = i + 1; j < groups.size(); ++j) {
        const double value = alike(groups[i], groups[j], at, linkage);
        if (value > best) {
          best = value;
          first = i;
          second = j;
        }
      }
    }
    auto& joined = groups[first];
    joined.insert(joined.end(), groups[second].begin(), groups[second].end());
    std::sort(joined.begin(), joined.end());
    groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(second));
  }
  return groups;
}

}  // namespace moekit::compress
