#include "moekit/merge/product.h"

#include <torch/torch.h>

#include <algorithm>

#include "moekit/merge/average.h"

namespace moekit::merge {
namespace {

const torch::Tensor& part(const nn::ExpertTensors& expert, const std::string& name) {
  const auto found = std::find_if(expert.begin(), expert.end(),
                                  [&](const auto& item) { return item.first == name; });
  MOEKIT_CHECK(found != expert.end(), "mean_product: the expert has no tensor ", name);
  return found->second;
}

torch::Tensor in_double(const nn::ExpertTensors& expert, const std::string& name) {
  return part(expert, name).detach().to(torch::kFloat64);
}

bool same(const nn::ExpertTensors& a, const nn::ExpertTensors& b) {
  if (a.size() != b.size()) return false;
  for (size_t t = 0; t < a.size(); ++t) {
    if (a[t].first != b[t].first || !torch::equal(a[t].second, b[t].second)) return false;
  }
  return true;
}

/// The factors of the nearest product of rank r to sum_i w_i down_i up_i: [r, D] and [O, r].
std::pair<torch::Tensor, torch::Tensor> nearest(const std::vector<torch::Tensor>& ups,
                                                const std::vector<torch::Tensor>& downs) {
  const int64_t rank = ups.front().size(0);
  // Left and right factors side by side, each as an orthonormal basis and what stands in it: the
  // product of the two small matrices has the singular values of the whole.
  const auto [left, in_left] = torch::linalg_qr(torch::cat(downs, 1), "reduced");
  const auto [right, in_right] = torch::linalg_qr(torch::cat(ups).t(), "reduced");
  const auto [u, s, vh] = torch::linalg_svd(in_left.mm(in_right.t()), /*full_matrices=*/false);
  const int64_t known = std::min(rank, s.size(0));
  const auto root = s.slice(0, 0, known).sqrt();
  auto up = torch::zeros_like(ups.front());
  auto down = torch::zeros_like(downs.front());
  up.slice(0, 0, known).copy_(root.unsqueeze(1) * vh.slice(0, 0, known).mm(right.t()));
  down.slice(1, 0, known).copy_(left.mm(u.slice(1, 0, known)) * root);
  return {up, down};
}

}  // namespace

nn::ExpertTensors mean_product(const nn::MatrixPair& pair,
                               const std::vector<nn::ExpertTensors>& experts,
                               const std::vector<double>& weights) {
  const torch::NoGradGuard no_grad;
  auto mean = average(experts, weights);  // refuses what does not fit
  const bool all_same = std::all_of(experts.begin(), experts.end(), [&](const auto& expert) {
    return same(expert, experts.front());
  });
  if (all_same) return mean;
  const auto shares = shares_of(weights);
  std::vector<torch::Tensor> ups, downs;
  torch::Tensor bias;
  for (size_t e = 0; e < experts.size(); ++e) {
    ups.push_back(in_double(experts[e], pair.up));
    downs.push_back(in_double(experts[e], pair.down) * shares[e]);
    if (!torch::isfinite(ups.back()).all().item<bool>() ||
        !torch::isfinite(downs.back()).all().item<bool>()) {
      throw NumericError(
          concat("mean_product: expert ", e, " of ", experts.size(), " holds NaN or infinity"));
    }
    if (pair.up_bias.empty()) continue;
    const auto own = downs.back().mv(in_double(experts[e], pair.up_bias)) +
                     in_double(experts[e], pair.down_bias) * shares[e];
    bias = bias.defined() ? bias + own : own;
  }
  const auto [up, down] = nearest(ups, downs);
  nn::ExpertTensors out;
  for (const auto& [name, tensor] : mean) {
    torch::Tensor values = tensor.clone();
    if (name == pair.up) values.copy_(up);
    if (name == pair.down) values.copy_(down);
    if (!pair.up_bias.empty() && name == pair.up_bias) values.zero_();
    if (!pair.up_bias.empty() && name == pair.down_bias) values.copy_(bias);
    out.emplace_back(name, values);
  }
  return out;
}

}  // namespace moekit::merge
