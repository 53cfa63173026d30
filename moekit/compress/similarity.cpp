#include "moekit/compress/similarity.h"

#include <torch/torch.h>

#include "moekit/merge/align_units.h"
#include "moekit/metrics/similarity.h"

namespace moekit::compress {
namespace {

/// All floating-point tensors of an expert, strung together, [P] float64.
torch::Tensor flat(const nn::ExpertTensors& tensors) {
  std::vector<torch::Tensor> parts;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.is_floating_point()) parts.push_back(tensor.flatten().to(torch::kFloat64));
  }
  return torch::cat(parts);
}

torch::Tensor by_weights(const nn::RoutedLayer& layer, const LayerStatistics&, bool align) {
  const int64_t experts = layer.experts->num_experts();
  std::vector<nn::ExpertTensors> own;
  std::vector<torch::Tensor> rows;
  for (int64_t e = 0; e < experts; ++e) {
    own.push_back(nn::expert_tensors(*layer.experts, e));
    rows.push_back(flat(own.back()));
    MOEKIT_CHECK(rows.back().numel() == rows.front().numel(), "layer \"", layer.name, "\": expert ",
                 e, " has ", rows.back().numel(), " weights, expert 0 ", rows.front().numel());
  }
  auto cosine = metrics::weight_cosine(torch::stack(rows));
  const auto units = layer.experts->hidden_units();
  if (!align) return cosine;
  MOEKIT_CHECK(units, "layer \"", layer.name,
               "\": the experts cannot tell their hidden units, so that they cannot be aligned");
  for (int64_t i = 0; i < experts; ++i) {
    for (int64_t j = i + 1; j < experts; ++j) {
      const auto lain = flat(
          merge::align_units(*units, own[static_cast<size_t>(i)], own[static_cast<size_t>(j)]));
      const auto pair =
          metrics::weight_cosine(torch::stack({rows[static_cast<size_t>(i)], lain}))[0][1];
      cosine[i][j].copy_(pair);
      cosine[j][i].copy_(pair);
    }
  }
  return cosine;
}

torch::Tensor by_outputs(const nn::RoutedLayer& layer, const LayerStatistics& statistics, bool) {
  std::vector<torch::Tensor> outputs;
  for (const auto& pass : statistics.passes) {
    outputs.push_back(layer.experts->forward_all(pass.inputs).values);
  }
  return metrics::linear_cka(torch::cat(outputs, 1), metrics::CkaEstimator::kUnbiased);
}

torch::Tensor by_router(const nn::RoutedLayer&, const LayerStatistics& statistics, bool) {
  return metrics::weight_cosine(statistics.logits.t().contiguous());
}

}  // namespace

torch::Tensor expert_similarity(Similarity method, const nn::RoutedLayer& layer,
                                const LayerStatistics& statistics, bool align) {
  const torch::NoGradGuard no_grad;
  MOEKIT_CHECK(layer.experts->num_experts() == statistics.num_experts(), "layer \"", layer.name,
               "\" has ", layer.experts->num_experts(), " experts, its calibration ",
               statistics.num_experts());
  using Compare = torch::Tensor (*)(const nn::RoutedLayer&, const LayerStatistics&, bool);
  static constexpr Compare kTable[] = {&by_weights, &by_outputs, &by_router};
  return kTable[static_cast<size_t>(method)](layer, statistics, align);
}

}  // namespace moekit::compress
