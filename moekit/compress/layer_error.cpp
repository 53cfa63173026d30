#include "moekit/compress/layer_error.h"

#include <torch/torch.h>

#include <limits>

namespace moekit::compress {

torch::Tensor layer_outputs(const nn::RoutedLayer& layer, const LayerStatistics& statistics) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> outputs;
  for (const auto& pass : statistics.passes) {
    outputs.push_back(layer.module->outputs_of(pass.inputs, pass.context));
    if (!outputs.back().defined()) return {};
  }
  return outputs.empty() ? torch::Tensor() : torch::cat(outputs);
}

double relative_error(const torch::Tensor& before, const torch::Tensor& after) {
  MOEKIT_CHECK(before.sizes() == after.sizes(), "relative_error: outputs ", before.sizes(), " and ",
               after.sizes());
  const auto was = before.to(torch::kFloat64);
  const double size = was.norm().item<double>();
  if (size == 0) return std::numeric_limits<double>::quiet_NaN();
  return (after.to(torch::kFloat64) - was).norm().item<double>() / size;
}

}  // namespace moekit::compress
