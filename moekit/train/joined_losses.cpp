#include "moekit/train/joined_losses.h"

#include <torch/autograd.h>

namespace moekit::train {
namespace {

/// Tensors of a routing that carry gradients. All but `weight` have one row a token.
constexpr torch::Tensor nn::Routing::*kFields[] = {&nn::Routing::logits, &nn::Routing::probs,
                                                   &nn::Routing::weight, &nn::Routing::clean_logits,
                                                   &nn::Routing::noise_std};

bool is_per_row(const torch::Tensor& of, torch::Tensor nn::Routing::*field,
                const nn::Routing& routing) {
  if (!of.defined()) return false;
  return of.size(0) ==
         (field == &nn::Routing::weight ? routing.num_assignments() : routing.num_tokens());
}

nn::LayerRouting join(const std::vector<std::vector<nn::LayerRouting>>& parts, size_t layer) {
  const auto cat = [&](const auto& of) {
    std::vector<torch::Tensor> all;
    for (const auto& part : parts) all.push_back(of(part[layer]));
    return torch::cat(all);
  };
  nn::LayerRouting out = parts.front()[layer];
  const auto& first = parts.front()[layer].routing;
  for (const auto field : kFields) {
    if (!is_per_row(first.*field, field, first)) continue;
    out.routing.*field = cat([&](const auto& part) { return part.routing.*field; });
  }
  if (first.expert_index.defined()) {
    out.routing.expert_index = cat([](const auto& part) { return part.routing.expert_index; });
  }
  out.routing.expert = cat([](const auto& part) { return part.routing.expert; });
  int64_t tokens = 0;
  out.routing.token = cat([&](const auto& part) {
    auto token = part.routing.token + tokens;
    tokens += part.routing.num_tokens();
    return token;
  });
  if (first.sequence.defined()) {  // each part counts its sequences from 0
    int64_t sequences = 0;
    out.routing.sequence = cat([&](const auto& part) {
      const auto& of = part.routing.sequence;
      auto sequence = of + sequences;
      if (of.numel() > 0) sequences += of.max().template item<int64_t>() + 1;
      return sequence;
    });
  }
  out.samples = cat([](const auto& part) { return part.samples; });
  out.dropped = 0;
  for (const auto& part : parts) out.dropped += part[layer].dropped;
  return out;
}

}  // namespace

JoinedLosses::JoinedLosses(const std::vector<std::vector<nn::LayerRouting>>& parts,
                           const std::vector<nn::AuxLoss>& losses) {
  begins_.assign(parts.size(), std::vector<Begin>(parts.front().size()));
  for (size_t l = 0; l < parts.front().size(); ++l) {
    for (size_t p = 1; p < parts.size(); ++p) {
      const auto& before = parts[p - 1][l].routing;
      begins_[p][l] = {begins_[p - 1][l].token + before.num_tokens(),
                       begins_[p - 1][l].assignment + before.num_assignments()};
    }
    auto leaves = join(parts, l);
    layers_.push_back(leaves);
    for (const auto field : kFields) {
      auto& leaf = leaves.routing.*field;
      if (leaf.defined()) leaf = leaf.detach().requires_grad_();
    }
    const torch::AutoGradMode with_graph(true);
    terms_.push_back(nn::aux_losses({leaves.routing, leaves.samples}, losses));
    torch::Tensor total;
    for (const auto& term : terms_.back()) {
      total = total.defined() ? total + term.value : term.value;
    }
    if (total.defined()) total.backward();
    auto& gradients = gradients_.emplace_back();
    for (const auto field : kFields) {
      const auto& leaf = leaves.routing.*field;
      gradients.push_back(leaf.defined() ? leaf.grad() : torch::Tensor());
    }
  }
}

torch::Tensor JoinedLosses::pull_back(size_t part,
                                      const std::vector<nn::LayerRouting>& layers) const {
  torch::Tensor sum;
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& routing = layers[l].routing;
    for (size_t f = 0; f < std::size(kFields); ++f) {
      const auto& of = routing.*kFields[f];
      if (!gradients_[l][f].defined() || !of.defined() || !of.requires_grad()) continue;
      auto gradient = gradients_[l][f];
      if (is_per_row(of, kFields[f], routing)) {
        const auto& begin = begins_[part][l];
        const int64_t at = kFields[f] == &nn::Routing::weight ? begin.assignment : begin.token;
        gradient = gradient.slice(0, at, at + of.size(0));
      }
      const auto product = (of * gradient).sum();
      sum = sum.defined() ? sum + product : product;
    }
  }
  return sum;
}

}  // namespace moekit::train
