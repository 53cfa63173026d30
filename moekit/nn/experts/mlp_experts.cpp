#include "moekit/nn/experts/mlp_experts.h"

#include "moekit/core/error.h"
#include "moekit/nn/experts/flat_experts.h"
#include "moekit/nn/grouped_linear.h"

namespace moekit::nn {
namespace {

FfnParameters parameters_of(const MlpExpertsImpl& e) {
  return {e.gate_proj, e.up_proj, e.down_proj, e.gate_bias, e.up_bias, e.down_bias};
}

}  // namespace

MlpExpertsImpl::MlpExpertsImpl(MlpExpertsOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(options.hidden_size() >= 1 && options.intermediate_size() >= 1 &&
                   options.num_experts() >= 1 && options.output_size() >= 1,
               "MlpExperts: sizes must be at least 1; got hidden_size ", options.hidden_size(),
               ", intermediate_size ", options.intermediate_size(), ", num_experts ",
               options.num_experts(), ", output_size ", options.output_size());
  reset();
}

void MlpExpertsImpl::reset() {
  const int64_t e = options.num_experts();
  const int64_t d = options.hidden_size();
  const int64_t f = options.intermediate_size();
  const int64_t o = options.output_size();
  const bool gated = is_gated(options.activation());
  if (gated) gate_proj = register_parameter("gate_proj", torch::empty({e, f, d}));
  up_proj = register_parameter("up_proj", torch::empty({e, f, d}));
  down_proj = register_parameter("down_proj", torch::empty({e, o, f}));
  if (options.bias()) {
    if (gated) gate_bias = register_parameter("gate_bias", torch::empty({e, f}));
    up_bias = register_parameter("up_bias", torch::empty({e, f}));
    down_bias = register_parameter("down_bias", torch::empty({e, o}));
  }
  reset_parameters({});
}

void MlpExpertsImpl::reset_parameters(const at::Generator& generator) {
  const auto draw = [&](torch::Tensor& parameter, int64_t fan_in) {
    if (parameter.defined()) init_uniform_fan_in(parameter, fan_in, generator);
  };
  for (auto* parameter : {&gate_proj, &up_proj, &gate_bias, &up_bias}) {
    draw(*parameter, options.hidden_size());
  }
  for (auto* parameter : {&down_proj, &down_bias}) draw(*parameter, options.intermediate_size());
  if (options.init() == ExpertInit::kDefault) return;
  const torch::NoGradGuard no_grad;
  for (auto* parameter : {&gate_bias, &up_bias, &down_proj, &down_bias}) {
    if (parameter->defined()) parameter->zero_();
  }
}

ExpertOutput MlpExpertsImpl::forward_all(const torch::Tensor& tokens) {
  const auto up = stacked_linear(tokens, up_proj, up_bias);
  const auto hidden =
      gate_proj.defined()
          ? activate(stacked_linear(tokens, gate_proj, gate_bias), options.activation()) * up
          : activate(up, options.activation());
  return {stacked_linear(hidden, down_proj, down_bias), up};
}

torch::Tensor MlpExpertsImpl::forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) {
  return composed_ffn(rows, parameters_of(*this), options.activation(), plan.offsets);
}

torch::Tensor MlpExpertsImpl::forward_fused(const torch::Tensor& tokens, const RoutingPlan& plan,
                                            const torch::Tensor& weight,
                                            const std::shared_ptr<Runtime>& runtime) {
  return fused_.forward(tokens, parameters_of(*this), plan, weight, options.activation(),
                        options.compute(), options.keep_activations(), runtime);
}

std::string MlpExpertsImpl::why_not_fused(const torch::Tensor& tokens) const {
  return FusedFfn::why_not(tokens, parameters_of(*this), options.activation());
}

void MlpExpertsImpl::take_experts(ExpertEdit& edit) {
  for (auto* parameter : {&gate_proj, &up_proj, &down_proj, &gate_bias, &up_bias, &down_bias}) {
    edit.take_rows(*parameter);
  }
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

// A gated unit is a row of both projections.
std::optional<std::vector<HiddenUnits>> MlpExpertsImpl::hidden_units() const {
  HiddenUnits units{options.intermediate_size(), {{"up_proj", 0}, {"down_proj", 1}}};
  if (gate_proj.defined()) units.axes.push_back({"gate_proj", 0});
  if (up_bias.defined()) units.axes.push_back({"up_bias", 0});
  if (gate_bias.defined()) units.axes.push_back({"gate_bias", 0});
  return {{std::move(units)}};
}

std::optional<MatrixPair> MlpExpertsImpl::matrix_pair() const {
  if (options.activation() != Activation::kIdentity) return std::nullopt;
  MatrixPair pair{"up_proj", "down_proj", "", ""};
  if (options.bias()) {
    pair.up_bias = "up_bias";
    pair.down_bias = "down_bias";
  }
  return pair;
}

std::shared_ptr<ExpertsImpl> make_mlp_experts(const MlpExpertsOptions& options,
                                              const LayerSite& site) {
  return flatten_images(std::make_shared<MlpExpertsImpl>(MlpExpertsOptions(options)
                                                             .hidden_size(site.size())
                                                             .num_experts(site.num_experts)
                                                             .output_size(site.output_size)),
                        site);
}

}  // namespace moekit::nn
