#include "moekit/merge/align_units.h"

#include <torch/torch.h>

#include "moekit/core/error.h"
#include "moekit/merge/linear_assignment.h"

namespace moekit::merge {
namespace {

// A sweep that changes nothing ends the search, and every change brings weights nearer; rounding
// could make two orders change places for ever.
constexpr int kMostSweeps = 100;

torch::Tensor& find(nn::ExpertTensors& tensors, const std::string& name) {
  for (auto& [own, tensor] : tensors) {
    if (own == name) return tensor;
  }
  throw ArgumentError(concat("align_units: the expert has no tensor ", name));
}

/// The part of a tensor that a layer's units take up.
torch::Tensor part_of(const torch::Tensor& tensor, const nn::UnitAxis& axis, int64_t count) {
  MOEKIT_CHECK(
      axis.dim < tensor.dim() && axis.first + count * axis.per_unit <= tensor.size(axis.dim),
      "align_units: ", axis.tensor, " ", tensor.sizes(), " does not hold ", count,
      " units along dimension ", axis.dim);
  return tensor.narrow(axis.dim, axis.first, count * axis.per_unit);
}

/// [units, all else] of a part, in float at least.
torch::Tensor rows_of(const torch::Tensor& part, const nn::UnitAxis& axis, int64_t count) {
  const auto rows = part.movedim(axis.dim, 0).reshape({count, -1});
  return rows.scalar_type() == torch::kFloat64 ? rows : rows.to(torch::kFloat32);
}

/// Exchanges the units of one layer. @return whether any changed its place
bool match(const nn::HiddenUnits& layer, nn::ExpertTensors& reference, nn::ExpertTensors& other) {
  auto likeness = torch::zeros({layer.count, layer.count}, torch::kFloat64);
  for (const auto& axis : layer.axes) {
    const auto of = [&](nn::ExpertTensors& tensors) {
      return rows_of(part_of(find(tensors, axis.tensor), axis, layer.count), axis, layer.count);
    };
    likeness += of(reference).matmul(of(other).t());
  }
  const auto cost = likeness.neg().to(torch::kFloat32).contiguous();
  const auto index = torch::tensor(assign(cost.data_ptr<float>(), layer.count), torch::kLong);
  if (index.equal(torch::arange(layer.count, torch::kLong))) return false;
  for (const auto& axis : layer.axes) {
    auto part = part_of(find(other, axis.tensor), axis, layer.count);
    const auto units = part.unflatten(axis.dim, {layer.count, axis.per_unit});
    part.copy_(units.index_select(axis.dim, index).flatten(axis.dim, axis.dim + 1));
  }
  return true;
}

}  // namespace

nn::ExpertTensors align_units(const std::vector<nn::HiddenUnits>& layers,
                              const nn::ExpertTensors& reference, const nn::ExpertTensors& other) {
  const torch::NoGradGuard no_grad;
  nn::ExpertTensors fixed = reference;
  nn::ExpertTensors aligned;
  for (const auto& [name, tensor] : other) {
    const auto& of_reference = find(fixed, name);
    MOEKIT_CHECK(of_reference.sizes() == tensor.sizes(), "align_units: ", name, " is ",
                 tensor.sizes(), " and ", of_reference.sizes());
    aligned.emplace_back(name, tensor.detach().clone());
  }
  bool changed = !layers.empty();
  for (int sweep = 0; changed && sweep < kMostSweeps; ++sweep) {
    changed = false;
    for (const auto& layer : layers) changed = match(layer, fixed, aligned) || changed;
    changed = changed && layers.size() > 1;
  }
  return aligned;
}

}  // namespace moekit::merge
