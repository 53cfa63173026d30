#pragma once

#include <torch/types.h>

#include <memory>
#include <vector>

#include "moekit/core/kinds.h"

namespace moekit::federated {

/// How samples are dealt out to users.
class Split {
 public:
  virtual ~Split() = default;
  /// @param labels  [N] int64, 0..num_classes-1 @return for each user the samples it has, every
  /// sample once; a user may be left without any
  /// @throws ArgumentError naming the key for data that cannot be dealt out
  virtual std::vector<std::vector<int64_t>> deal(const torch::Tensor& labels, int64_t num_classes,
                                                 int64_t users, uint64_t seed) const = 0;
};

/// What a split is made for.
struct SplitSite {};

/// The table of splits.
struct SplitKinds {
  using Row = Kind<std::unique_ptr<Split>, SplitSite>;
  static constexpr const char* kDefault = "iid";
  static constexpr const char* kWhat = "split";
  static constexpr const char* kDoc = "how the data are dealt out to users";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

/// Row `part` of `parts` of a list that is cut evenly.
std::vector<int64_t> cut(const std::vector<int64_t>& list, int64_t part, int64_t parts);

}  // namespace moekit::federated
