#include "moekit/nn/packing.h"

#include <string>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/nn/experts/mlp_experts.h"

namespace moekit::nn {
namespace {

template <typename Visit>
void for_each_network(torch::nn::Module& model, const Visit& visit) {
  for (const auto& item : model.named_modules("", /*include_self=*/false)) {
    auto* experts = dynamic_cast<MlpExpertsImpl*>(item.value().get());
    if (experts != nullptr) visit(item.key(), *experts);
  }
}

}  // namespace

PackedSize pack_networks(torch::nn::Module& model, kernels::WeightFormat format) {
  PackedSize size;
  try {
    for_each_network(model, [&](const std::string& name, MlpExpertsImpl& experts) {
      about(name, [&] { experts.pack(format); });
      size.networks += experts.num_experts();
      size.bytes += experts.num_experts() * experts.packed()->expert_bytes();
      for (const auto& p : experts.parameters()) size.float_bytes += p.numel() * p.element_size();
    });
  } catch (...) {
    unpack_networks(model);
    throw;
  }
  MOEKIT_CHECK(size.networks > 0, "the model has no feed-forward networks that could be packed");
  return size;
}

void unpack_networks(torch::nn::Module& model) {
  for_each_network(model, [](const std::string&, MlpExpertsImpl& experts) { experts.unpack(); });
}

}  // namespace moekit::nn
