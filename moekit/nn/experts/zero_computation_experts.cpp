#include "moekit/nn/experts/zero_computation_experts.h"

#include "moekit/core/error.h"
#include "moekit/nn/experts/token_blends.h"

namespace moekit::nn {
namespace {

/// @param where  before the message
void check_counts(const ZeroComputationOptions& o, int64_t num_experts, const std::string& where) {
  MOEKIT_CHECK(o.constant_experts() >= 0 && o.copy_experts() >= 0 && o.zero_experts() >= 0 &&
                   o.num_free() >= 1,
               where, "wants an expert without computation; got ", o.constant_experts(),
               " constant, ", o.copy_experts(), " copy and ", o.zero_experts(), " zero experts");
  MOEKIT_CHECK(num_experts > o.num_free(), where, "wants a feed-forward expert beside the ",
               o.num_free(), " constant, copy and zero experts; there are ", num_experts,
               " in all");
}

/// The part of a plan that is of its first experts.
RoutingPlan first_of(const RoutingPlan& plan, int64_t experts) {
  RoutingPlan part = plan;
  part.num_experts = experts;
  part.offsets.resize(static_cast<size_t>(experts) + 1);
  const auto rows = static_cast<size_t>(part.num_rows());
  part.token.resize(rows);
  part.assignment.resize(rows);
  if (!part.weight.empty()) part.weight.resize(rows);
  part.dropped.resize(static_cast<size_t>(experts));
  while (!part.active.empty() && part.active.back() >= experts) part.active.pop_back();
  return part;
}

}  // namespace

ZeroComputationExpertsImpl::ZeroComputationExpertsImpl(ZeroComputationOptions options_)
    : options(std::move(options_)) {
  const auto& o = options.mlp;
  check_counts(options, o.num_experts() + options.num_free(), "ZeroComputationExperts: ");
  MOEKIT_CHECK(o.hidden_size() == o.output_size(),
               "ZeroComputationExperts: a copy has the token's size, ", o.hidden_size(),
               "; output_size is ", o.output_size());
  reset();
}

void ZeroComputationExpertsImpl::reset() {
  ffn = register_module("ffn", MlpExperts(options.mlp));
  if (options.constant_experts() > 0) {
    const int64_t d = options.mlp.hidden_size();
    constant = register_parameter("constant", torch::empty({options.constant_experts(), d}));
    blend = register_parameter("blend", torch::empty({options.constant_experts(), 2, d}));
  }
  reset_parameters({});
}

void ZeroComputationExpertsImpl::reset_parameters(const at::Generator& generator) {
  ffn->reset_parameters(generator);
  if (!constant.defined()) return;
  const torch::NoGradGuard no_grad;
  constant.normal_(0, 1, generator);
  init_uniform_fan_in(blend, options.mlp.hidden_size(), generator);
}

torch::Tensor ZeroComputationExpertsImpl::free_expert(int64_t which,
                                                      const torch::Tensor& rows) const {
  if (which < options.constant_experts()) return constant_rows(rows, constant, blend, which);
  if (which < options.constant_experts() + options.copy_experts()) return rows;
  return torch::zeros_like(rows);
}

ExpertOutput ZeroComputationExpertsImpl::forward_all(const torch::Tensor& tokens) {
  std::vector<torch::Tensor> all{ffn->forward_all(tokens).values};
  for (int64_t i = 0; i < options.num_free(); ++i) {
    all.push_back(free_expert(i, tokens).unsqueeze(0));
  }
  return {torch::cat(all), {}};
}

torch::Tensor ZeroComputationExpertsImpl::forward_routed(const torch::Tensor& rows,
                                                         const RoutingPlan& plan) {
  const auto own = first_of(plan, num_computing());
  std::vector<torch::Tensor> all{ffn->forward_routed(rows.narrow(0, 0, own.num_rows()), own)};
  for (int64_t i = 0; i < options.num_free(); ++i) {
    const int64_t e = num_computing() + i;
    all.push_back(
        free_expert(i, rows.narrow(0, plan.offsets[static_cast<size_t>(e)], plan.count(e))));
  }
  return torch::cat(all);
}

torch::Tensor ZeroComputationExpertsImpl::forward_fused(const torch::Tensor& tokens,
                                                        const RoutingPlan& plan,
                                                        const torch::Tensor& weight,
                                                        const std::shared_ptr<Runtime>& runtime) {
  return ffn->forward_fused(tokens, first_of(plan, num_computing()), weight, runtime) +
         blend_tokens(tokens, weight, constant, blend, plan,
                      {num_computing(), options.constant_experts(), options.copy_experts()});
}

void ZeroComputationExpertsImpl::take_experts(ExpertEdit& edit) {
  const bool same = edit.index.numel() == num_experts() &&
                    edit.index.equal(torch::arange(num_experts(), torch::kLong));
  MOEKIT_CHECK(same,
               "ZeroComputationExperts: experts cannot be left out or exchanged: an expert's place "
               "says what it is");
}

void check_zero_computation_experts(const ZeroComputationOptions& options, const LayerSite& site,
                                    const std::string& where) {
  check_counts(options, site.num_experts, where + ": ");
  MOEKIT_CHECK(!site.is_image() && site.size() == site.output_size, where,
               ".kind = \"zero_computation\" wants tokens of the outputs' size ", site.output_size);
}

std::shared_ptr<ExpertsImpl> make_zero_computation_experts(const ZeroComputationOptions& options,
                                                           const LayerSite& site) {
  ZeroComputationOptions own = options;
  own.mlp.hidden_size(site.size())
      .output_size(site.output_size)
      .num_experts(site.num_experts - options.num_free());
  return std::make_shared<ZeroComputationExpertsImpl>(std::move(own));
}

}  // namespace moekit::nn
