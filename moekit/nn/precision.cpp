#include "moekit/nn/precision.h"

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

/// Says which parameters differ; a name costs a walk over the module that most calls do without.
[[noreturn]] void refuse_types(const torch::nn::Module& module) {
  std::string first;
  torch::Tensor of_first;
  for (const auto& item : module.named_parameters()) {
    const auto& value = item.value();
    if (!value.defined() || !value.is_floating_point()) continue;
    if (of_first.defined() && value.dtype() != of_first.dtype()) {
      throw ArgumentError(concat(module.name(), ": parameters must be of one type; ", first, " is ",
                                 of_first.dtype(), ", ", item.key(), " is ", value.dtype()));
    }
    if (!of_first.defined()) {
      first = item.key();
      of_first = value;
    }
  }
  throw ArgumentError(concat(module.name(), ": parameters must be of one type"));
}

}  // namespace

torch::ScalarType compute_type(const torch::Tensor& a, const torch::Tensor& b) {
  return c10::promoteTypes(c10::promoteTypes(a.scalar_type(), b.scalar_type()), torch::kFloat32);
}

torch::Tensor at_least_float(const torch::Tensor& tensor) {
  return tensor.to(compute_type(tensor, tensor));
}

torch::Tensor as_parameters(const torch::Tensor& tensor, const torch::nn::Module& module) {
  if (!tensor.defined() || !tensor.is_floating_point()) return tensor;
  torch::Tensor of;
  for (const auto& parameter : module.parameters()) {
    if (!parameter.is_floating_point()) continue;
    if (of.defined() && parameter.scalar_type() != of.scalar_type()) refuse_types(module);
    of = parameter;
  }
  return of.defined() ? tensor.to(of.scalar_type()) : tensor;
}

}  // namespace moekit::nn
