#include "moekit/tasks/continual/best_state.h"

#include <torch/torch.h>

#include <string>

#include "moekit/core/error.h"

namespace moekit::continual {
namespace {

std::vector<torch::Tensor> all_tensors(const torch::nn::Module& model) {
  auto tensors = model.parameters();
  for (const auto& buffer : model.buffers()) tensors.push_back(buffer);
  return tensors;
}

}  // namespace

BestStateImpl::BestStateImpl(torch::nn::Module& model) : model_(model) {
  const torch::NoGradGuard no_grad;
  for (const auto& tensor : all_tensors(model)) {
    copies_.push_back(
        register_buffer("copy" + std::to_string(copies_.size()), tensor.detach().clone()));
  }
}

void BestStateImpl::fit() {
  const torch::NoGradGuard no_grad;
  const auto tensors = all_tensors(model_);
  MOEKIT_CHECK(tensors.size() == copies_.size(), "BestState: the model had ", copies_.size(),
               " tensors, now ", tensors.size());
  for (size_t t = 0; t < tensors.size(); ++t) {
    if (copies_[t].sizes() != tensors[t].sizes()) copies_[t].set_data(tensors[t].detach().clone());
  }
}

void BestStateImpl::keep() {
  const torch::NoGradGuard no_grad;
  fit();
  const auto tensors = all_tensors(model_);
  for (size_t t = 0; t < tensors.size(); ++t) copies_[t].copy_(tensors[t]);
}

void BestStateImpl::give_back() {
  const torch::NoGradGuard no_grad;
  auto tensors = all_tensors(model_);
  for (size_t t = 0; t < tensors.size(); ++t) tensors[t].copy_(copies_[t]);
}

}  // namespace moekit::continual
