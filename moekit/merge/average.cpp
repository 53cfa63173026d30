#include "moekit/merge/average.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moekit/kernels/mean/weighted_mean.h"
#include "moekit/nn/runtime.h"

namespace moekit::merge {
namespace {

// Pieces of about a tenth of a millisecond for a few experts; below one, threads cost more.
constexpr int64_t kPiece = 1 << 16;

/// The mean of tensors of a type that the kernel knows, by all of libtorch's threads.
template <typename T>
torch::Tensor mean_in_memory(const std::vector<torch::Tensor>& tensors,
                             const std::vector<double>& shares) {
  const auto& first = tensors.front();
  std::vector<torch::Tensor> lying;  // what is gathered lives as long as it is read
  std::vector<const T*> inputs;
  for (const auto& tensor : tensors) {
    lying.push_back(tensor.to(first.scalar_type()).contiguous());
    inputs.push_back(static_cast<const T*>(lying.back().data_ptr()));
  }
  auto out = torch::empty_like(first, at::MemoryFormat::Contiguous);
  auto* values = static_cast<T*>(out.data_ptr());
  const auto count = static_cast<int64_t>(inputs.size());
  const int64_t size = out.numel();
  if (size <= kPiece) {
    kernels::weighted_mean(inputs.data(), shares.data(), count, size, values);
    return out;
  }
  nn::Runtime::standard()->run([&](const kernels::Execution& execution) {
    execution.pool->run((size + kPiece - 1) / kPiece, [&](int64_t piece, int) {
      const int64_t begin = piece * kPiece;
      std::vector<const T*> from;
      for (const T* input : inputs) from.push_back(input + begin);
      kernels::weighted_mean(from.data(), shares.data(), count, std::min(kPiece, size - begin),
                             values + begin);
    });
  });
  return out;
}

/// The mean of the same tensor of several experts; of whole numbers, the first.
torch::Tensor mean_of(const std::vector<torch::Tensor>& tensors,
                      const std::vector<double>& shares) {
  const auto& first = tensors.front();
  if (!first.is_floating_point()) return first.clone();
  if (first.scalar_type() == torch::kFloat32) return mean_in_memory<float>(tensors, shares);
  if (first.scalar_type() == torch::kBFloat16) {
    return mean_in_memory<kernels::Bf16Bits>(tensors, shares);
  }
  // From the first one on by differences: equal experts leave exact zeros.
  const auto base = first.to(torch::kFloat64);
  auto moved = base.clone();
  for (size_t e = 1; e < tensors.size(); ++e) {
    moved += (tensors[e].to(torch::kFloat64) - base) * shares[e];
  }
  return moved.to(first.scalar_type());
}

}  // namespace

std::vector<double> shares_of(const std::vector<double>& weights) {
  for (const double weight : weights) {
    MOEKIT_CHECK(std::isfinite(weight) && weight >= 0,
                 "merge: weights must be finite numbers from 0; got ", weight);
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  MOEKIT_CHECK(sum > 0 && std::isfinite(sum), "merge: the weights' sum must be positive; got ",
               sum);
  std::vector<double> shares;
  shares.reserve(weights.size());
  for (const double weight : weights) shares.push_back(weight / sum);
  return shares;
}

nn::ExpertTensors average(const std::vector<nn::ExpertTensors>& experts,
                          const std::vector<double>& weights) {
  const torch::NoGradGuard no_grad;
  MOEKIT_CHECK(!experts.empty() && experts.size() == weights.size(), "average: ", experts.size(),
               " experts and ", weights.size(), " weights");
  const auto shares = shares_of(weights);
  const auto& first = experts.front();
  nn::ExpertTensors mean;
  for (size_t t = 0; t < first.size(); ++t) {
    const auto& [name, start] = first[t];
    std::vector<torch::Tensor> tensors{start.detach()};
    for (size_t e = 1; e < experts.size(); ++e) {
      MOEKIT_CHECK(experts[e].size() == first.size() && experts[e][t].first == name &&
                       experts[e][t].second.sizes() == start.sizes(),
                   "average: expert ", e, " of ", experts.size(), " has no ", name, " ",
                   start.sizes(), " as the first one does");
      tensors.push_back(experts[e][t].second.detach());
    }
    mean.emplace_back(name, mean_of(tensors, shares));
  }
  return mean;
}

}  // namespace moekit::merge
