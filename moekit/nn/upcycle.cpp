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

void check_fit(const MlpExpertsImpl& dense, const ExpertsImpl& experts, const RouterImpl& router,
               const UpcycleOptions& o) {
  MOEKIT_CHECK(experts.network_options() != nullptr,
               "upcycle: wants experts that are feed-forward networks");
  const auto& a = dense.options;
  const auto& b = *experts.network_options();
  MOEKIT_CHECK(a.num_experts() == 1, "upcycle: wants one dense network; got ", a.num_experts());
  MOEKIT_CHECK(o.granularity() >= 1, "upcycle: granularity must be at least 1; got ",
               o.granularity());
  MOEKIT_CHECK(a.hidden_size() == b.hidden_size() && a.output_size() == b.output_size(),
               "upcycle: the network maps ", a.hidden_size(), " values to ", a.output_size(),
               ", the experts ", b.hidden_size(), " to ", b.output_size());
  MOEKIT_CHECK(a.intermediate_size() == b.intermediate_size() * o.granularity(),
               "upcycle: granularity = ", o.granularity(), " experts of intermediate_size ",
               b.intermediate_size(), " do not make up the network's ", a.intermediate_size());
  MOEKIT_CHECK(a.activation() == b.activation(), "upcycle: the network's activation is ",
               enum_name(a.activation()), ", the experts' ", enum_name(b.activation()));
  MOEKIT_CHECK(a.bias() == b.bias(), "upcycle: the network has ", a.bias() ? "biases" : "no biases",
               ", the experts have ", b.bias() ? "some" : "none");
  MOEKIT_CHECK(a.weights() == b.weights(), "upcycle: the network's weights are ",
               enum_name(a.weights()), ", the experts' ", enum_name(b.weights()));
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

void upcycle(const MlpExpertsImpl& dense, ExpertsImpl& experts, RouterImpl& router,
             const UpcycleOptions& options, const at::Generator& generator) {
  check_fit(dense, experts, router, options);
  const torch::NoGradGuard no_grad;
  const int64_t slices = options.granularity();
  const auto& sizes = *experts.network_options();
  const double even = even_weight(router, sizes.hidden_size());
  MOEKIT_CHECK(std::isfinite(even) && even > 0, "upcycle: the router's weights are ", even,
               " where it scores all experts the same");
  const double factor = static_cast<double>(slices) / even;
  const bool all = options.scale() == UpcycleScale::kAll;
  MOEKIT_CHECK(!all || factor != 1, "upcycle: scale has no effect where nothing is made larger");
  const bool gated = dense.gate_proj.defined();
  const double of_each = all ? std::pow(factor, gated ? 1.0 / 3 : 1.0 / 2) : 1;
  const double of_down = all ? of_each : factor;
  const int64_t units = sizes.intermediate_size();
  const auto stacked = [&](const torch::Tensor& from, int64_t dim, double scale) {
    if (!from.defined()) return torch::Tensor();
    std::vector<torch::Tensor> of_experts;
    for (int64_t e = 0; e < sizes.num_experts(); ++e) {
      const int64_t slice = e % slices;
      of_experts.push_back((dim < 0 ? from[0] : from[0].narrow(dim, slice * units, units)) * scale);
    }
    return torch::stack(of_experts);
  };
  FfnParameters networks{stacked(dense.gate_proj, 0, of_each), stacked(dense.up_proj, 0, of_each),
                         stacked(dense.down_proj, 1, of_down), stacked(dense.gate_bias, 0, of_each),
                         stacked(dense.up_bias, 0, of_each),
                         // Every slice adds it, weights of a copy's slices sum to its own.
                         stacked(dense.down_bias, -1, 1 / even)};
  if (options.noise_share() > 0) {
    for (auto* matrices : {&networks.gate, &networks.up, &networks.down}) {
      if (!matrices->defined()) continue;
      const auto drawn = torch::empty_like(*matrices).uniform_(0, 1, generator);
      const auto noise = torch::empty_like(*matrices).normal_(0, options.noise_std(), generator);
      *matrices = torch::where(drawn < options.noise_share(), noise, *matrices);
    }
  }
  experts.set_networks(networks);
  const auto rows = router.expert_rows();
  for (size_t i = 1; i < rows.size(); ++i) torch::Tensor(rows[i]).zero_();
  const auto& scores = rows.front();
  auto of_copies = scores.sizes().vec();
  of_copies[0] /= slices;
  const auto of_copy =
      torch::empty(of_copies, scores.options()).normal_(0, options.router_std(), generator);
  torch::Tensor(scores).copy_(of_copy.repeat_interleave(slices, 0));
}

}  // namespace moekit::nn
