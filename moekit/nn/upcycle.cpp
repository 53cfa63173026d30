#include "moekit/nn/upcycle.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit::nn {
namespace {

/// Rows of a router beside the one that is a product with tokens are zeros as long as it lives.
class WithoutOffsets {
 public:
  explicit WithoutOffsets(const RouterImpl& router) {
    const auto rows = router.expert_rows();
    for (size_t i = 1; i < rows.size(); ++i) {
      before_.emplace_back(rows[i], rows[i].clone());
      before_.back().first.zero_();
    }
  }
  WithoutOffsets(const WithoutOffsets&) = delete;
  WithoutOffsets& operator=(const WithoutOffsets&) = delete;
  ~WithoutOffsets() {
    for (auto& [row, value] : before_) row.copy_(value);
  }

 private:
  std::vector<std::pair<torch::Tensor, torch::Tensor>> before_;
};

/// Mean sum of a token's weights where the router scores all experts the same: of tokens that are
/// zeros.
double even_weight(RouterImpl& router, int64_t hidden_size) {
  const WithoutOffsets guard(router);
  const int64_t tokens = router.num_experts();  // some routers deal tokens out evenly
  const auto routing = router.forward(torch::zeros({tokens, hidden_size}), {});
  return routing.weight.sum().item<double>() / static_cast<double>(tokens);
}

void check_fit(const MlpExpertsImpl& dense, const MlpExpertsImpl& experts, const RouterImpl& router,
               const UpcycleOptions& o) {
  const auto& a = dense.options;
  const auto& b = experts.options;
  MOEKIT_CHECK(a.num_experts() == 1, "upcycle: wants one dense network; got ", a.num_experts());
  MOEKIT_CHECK(o.granularity() >= 1, "upcycle: granularity must be at least 1; got ",
               o.granularity());
  MOEKIT_CHECK(a.hidden_size() == b.hidden_size() && a.output_size() == b.output_size(),
               "upcycle: the network maps ", a.hidden_size(), " values to ", a.output_size(),
               ", the experts ", b.hidden_size(), " to ", b.output_size());
  MOEKIT_CHECK(a.intermediate_size() == b.intermediate_size() * o.granularity(),
               "upcycle: granularity = ", o.granularity(), " experts of intermediate_size ",
               b.intermediate_size(), " do not make up the network's ", a.intermediate_size());
  MOEKIT_CHECK(
      a.activation() == b.activation() && a.bias() == b.bias() && a.weights() == b.weights(),
      "upcycle: network and experts differ in activation, bias or weights");
  MOEKIT_CHECK(b.num_experts() % o.granularity() == 0, "upcycle: granularity = ", o.granularity(),
               " does not divide the ", b.num_experts(), " experts");
  const int64_t top_k = router.traits().top_k;
  MOEKIT_CHECK(top_k % o.granularity() == 0, "upcycle: granularity = ", o.granularity(),
               " does not divide top_k = ", top_k, ": a copy's slices are chosen together");
  MOEKIT_CHECK(!router.expert_rows().empty(), "upcycle: the router has no rows that score experts");
  MOEKIT_CHECK(o.noise_share() > 0 || o.noise_std() == UpcycleOptions{}.noise_std(),
               "upcycle: noise_std has no effect with noise_share = 0");
}

}  // namespace

void upcycle(const MlpExpertsImpl& dense, MlpExpertsImpl& experts, RouterImpl& router,
             const UpcycleOptions& options, const at::Generator& generator) {
  check_fit(dense, experts, router, options);
  const torch::NoGradGuard no_grad;
  const int64_t slices = options.granularity();
  const double even = even_weight(router, experts.options.hidden_size());
  MOEKIT_CHECK(std::isfinite(even) && even > 0, "upcycle: the router's weights are ", even,
               " where it scores all experts the same");
  const double factor = static_cast<double>(slices) / even;
  const bool all = options.scale() == UpcycleScale::kAll;
  MOEKIT_CHECK(!all || factor != 1, "upcycle: scale has no effect where nothing is made larger");
  const bool gated = dense.gate_proj.defined();
  const double of_each = all ? std::pow(factor, gated ? 1.0 / 3 : 1.0 / 2) : 1;
  const double of_down = all ? of_each : factor;
  const int64_t units = experts.options.intermediate_size();
  const auto fill = [&](const torch::Tensor& to, const torch::Tensor& from, int64_t dim,
                        double scale) {
    if (!to.defined()) return;
    for (int64_t e = 0; e < to.size(0); ++e) {
      const int64_t slice = e % slices;
      to[e].copy_((dim < 0 ? from[0] : from[0].narrow(dim, slice * units, units)) * scale);
    }
  };
  fill(experts.gate_proj, dense.gate_proj, 0, of_each);
  fill(experts.up_proj, dense.up_proj, 0, of_each);
  fill(experts.gate_bias, dense.gate_bias, 0, of_each);
  fill(experts.up_bias, dense.up_bias, 0, of_each);
  fill(experts.down_proj, dense.down_proj, 1, of_down);
  // Every slice adds it, weights of a copy's slices sum to its own.
  fill(experts.down_bias, dense.down_bias, -1, 1 / even);
  if (options.noise_share() > 0) {
    for (auto& parameter : experts.parameters()) {
      if (parameter.dim() < 3) continue;  // biases
      const auto drawn = torch::empty_like(parameter).uniform_(0, 1, generator);
      const auto noise = torch::empty_like(parameter).normal_(0, options.noise_std(), generator);
      parameter.copy_(torch::where(drawn < options.noise_share(), noise, parameter));
    }
  }
  const auto rows = router.expert_rows();
  for (size_t i = 1; i < rows.size(); ++i) torch::Tensor(rows[i]).zero_();
  const auto& scores = rows.front();
  auto sizes = scores.sizes().vec();
  sizes[0] /= slices;
  const auto of_copy =
      torch::empty(sizes, scores.options()).normal_(0, options.router_std(), generator);
  torch::Tensor(scores).copy_(of_copy.repeat_interleave(slices, 0));
}

}  // namespace moekit::nn
