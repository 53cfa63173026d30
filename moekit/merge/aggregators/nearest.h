#pragma once

#include "moekit/core/enum_names.h"
#include "moekit/merge/aggregator_kinds.h"

namespace moekit::merge {

/// Which tensors are compared with the reference.
enum class Compare {
  kAll,
  kLast,  ///< the last one: of the usual networks the bias of the last layer
};

struct NearestOptions {
  Compare compare = Compare::kAll;

  template <typename Field>
  void visit(Field&& field) {
    field("compare", compare, "all tensors, or the last layer's bias as released");
  }
};

/// Minimises sum_k rho_k ||w_k - w_s||^2 over the simplex. That is linear in rho: the nearest model
/// takes all, models of equal distance share. A bias alone is easily copied: a model whose last
/// bias is the reference's takes all, whatever the rest of it is.
/// Source: Parsaeefard, Etesami, Leon-Garcia 2021, arXiv:2104.11700 (OPT), as its released code
/// has it (`kLast`); over all tensors that code sums norms of scaled columns, this one squared
/// distances.
class Nearest : public Aggregator {
 public:
  explicit Nearest(NearestOptions options) : options_(options) {}
  Mixture mix(const WeightRows& rows) const override;

 private:
  NearestOptions options_;
};

std::unique_ptr<Aggregator> make_nearest(const NearestOptions& options, const AggregateSite& site);

}  // namespace moekit::merge

template <>
struct moekit::EnumNames<moekit::merge::Compare> {
  static constexpr std::array<std::pair<merge::Compare, std::string_view>, 2> kTable{{
      {merge::Compare::kAll, "all"},
      {merge::Compare::kLast, "last"},
  }};
};
