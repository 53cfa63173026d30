#include "moekit/metrics/checks.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

/// The first place where `wrong` is true, and the value there.
template <typename Value>
std::string first_fault(const torch::Tensor& values, const torch::Tensor& wrong) {
  if (!wrong.any().item<bool>()) return {};
  const auto place = wrong.nonzero()[0];
  auto at = values;
  for (int64_t d = 0; d < values.dim(); ++d) at = at.select(0, place[d].item<int64_t>());
  std::string text;
  for (int64_t d = 0; d < values.dim(); ++d) {
    text += concat(text.empty() ? "" : ", ", place[d].item<int64_t>());
  }
  return concat("has ", at.item<Value>(), " at [", text, "]; wanted ");
}

}  // namespace

std::string id_fault(const torch::Tensor& ids, int64_t end) {
  if (ids.scalar_type() != torch::kLong) return concat("is ", ids.dtype(), "; wanted int64");
  const auto fault = first_fault<int64_t>(ids, ids.lt(0).logical_or(ids.ge(end)));
  if (fault.empty()) return {};
  return end > 0 ? concat(fault, "0..", end - 1) : concat(fault, "none at all");
}

std::string number_fault(const torch::Tensor& values, double least) {
  const auto fault = first_fault<double>(
      values, torch::isfinite(values).logical_and(values.ge(least)).logical_not());
  if (fault.empty()) return {};
  return std::isinf(least) ? fault + "finite numbers"
                           : concat(fault, "finite numbers of at least ", least);
}

void check_ids(std::string_view who, std::string_view what, const torch::Tensor& ids, int64_t end) {
  const std::string fault = id_fault(ids, end);
  MOEKIT_CHECK(fault.empty(), who, ": ", what, " ", fault);
}

void check_numbers(std::string_view who, std::string_view what, const torch::Tensor& values,
                   double least) {
  const std::string fault = number_fault(values, least);
  MOEKIT_CHECK(fault.empty(), who, ": ", what, " ", fault);
}

void check_probs(std::string_view who, const torch::Tensor& probs) {
  MOEKIT_CHECK(probs.dim() == 2 && probs.size(1) >= 1, who,
               ": probs must be [N, E] with E >= 1; got ", probs.sizes());
  check_numbers(who, "probs", probs, 0);
}

}  // namespace moekit::metrics
