#include "moekit/nn/experts/mlp_experts.h"

#include "moekit/core/error.h"
#include "moekit/nn/experts/flat_experts.h"
#include "moekit/nn/experts/packed_mlp_experts.h"
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
  const bool rounded = options.weights() != WeightLevels::kFloat;
  MOEKIT_CHECK(!rounded || options.compute() == kernels::ComputeType::kF32,
               "MlpExperts: compute = \"", enum_name(options.compute()),
               "\" has no effect with weights = \"", enum_name(options.weights()), "\"");
  MOEKIT_CHECK(!rounded || options.keep_activations(),
               "MlpExperts: keep_activations = false has no effect with weights = \"",
               enum_name(options.weights()), "\"");
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
  unpack();
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
  if (packed_) {
    std::vector<torch::Tensor> values;
    for (int64_t e = 0; e < num_experts(); ++e) {
      const auto expert = torch::full({tokens.size(0)}, e, torch::kLong);
      values.push_back(forward_each(*this, tokens, expert));
    }
    return {torch::stack(values), {}};
  }
  if (options.weights() != WeightLevels::kFloat) {
    const int64_t n = tokens.size(0);
    const auto rows = tokens.unsqueeze(0).expand({num_experts(), -1, -1}).flatten(0, 1);
    std::vector<int64_t> offsets{0};
    for (int64_t e = 0; e < num_experts(); ++e) offsets.push_back(offsets.back() + n);
    const auto out =
        bit_ffn(rows, parameters_of(*this), options.activation(), options.weights(), offsets);
    return {out.values.view({num_experts(), n, -1}), out.up.view({num_experts(), n, -1})};
  }
  const auto [values, up] = stacked_ffn(tokens, parameters_of(*this), options.activation());
  return {values, up};
}

torch::Tensor MlpExpertsImpl::forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) {
  if (packed_) return forward_each(*this, rows, expert_of_rows(plan.offsets));
  if (options.weights() != WeightLevels::kFloat) {
    return bit_ffn(rows, parameters_of(*this), options.activation(), options.weights(),
                   plan.offsets)
        .values;
  }
  return composed_ffn(rows, parameters_of(*this), options.activation(), plan.offsets);
}

torch::Tensor MlpExpertsImpl::forward_fused(const torch::Tensor& tokens, const RoutingPlan& plan,
                                            const torch::Tensor& weight,
                                            const std::shared_ptr<Runtime>& runtime) {
  if (packed_) return forward_packed(*packed_, tokens, plan, weight, runtime);
  return fused_.forward(tokens, parameters_of(*this), plan, weight, options.activation(),
                        options.compute(), options.keep_activations(), runtime);
}

std::string MlpExpertsImpl::why_not_fused(const torch::Tensor& tokens) const {
  if (packed_) return {};
  if (options.weights() != WeightLevels::kFloat) {
    return concat("weights = \"", enum_name(options.weights()), "\" are learned without a kernel");
  }
  return FusedFfn::why_not(tokens, parameters_of(*this), options.activation());
}

void MlpExpertsImpl::pack(kernels::WeightFormat format) {
  const auto& o = options;
  const bool rounded = o.weights() != WeightLevels::kFloat;
  MOEKIT_CHECK(!rounded || format == kernels::WeightFormat::kTernary, "MlpExperts: weights = \"",
               enum_name(o.weights()), "\" are packed as \"ternary\" alone; got \"",
               kernels::format_info(format).name, "\"");
  for (const auto& parameter : parameters()) {
    MOEKIT_CHECK(parameter.scalar_type() == torch::kFloat32 && parameter.is_cpu(),
                 "MlpExperts: parameters are ", parameter.dtype(), " on ", parameter.device(),
                 "; float on the CPU are packed");
  }
  kernels::FfnShape shape{num_experts(),   o.hidden_size(), o.intermediate_size(),
                          o.output_size(), o.activation(),  o.bias()};
  if (rounded) shape.hidden_norm_eps = static_cast<float>(kBitNormEps);
  auto packed = std::make_shared<kernels::PackedExperts>(shape, format);
  const torch::NoGradGuard no_grad;
  const auto matrix = [&](const torch::Tensor& stack, int64_t e) {
    if (!stack.defined()) return torch::Tensor();
    // Two levels are three without the middle one. Three are what packing makes of the weights that
    // were rounded, by the same mean; of rounded ones the mean would be another.
    if (o.weights() != WeightLevels::kBinary || stack.dim() < 3) return stack[e].contiguous();
    const auto codes = weight_codes(stack[e], WeightLevels::kBinary);
    return (codes.values * codes.scale).contiguous();
  };
  const auto data = [](const torch::Tensor& t) {
    return t.defined() ? t.data_ptr<float>() : nullptr;
  };
  Runtime::standard()->run([&](const kernels::Execution& execution) {
    for (int64_t e = 0; e < num_experts(); ++e) {
      std::vector<torch::Tensor> of_expert;
      for (const auto* stack :
           {&gate_proj, &up_proj, &down_proj, &gate_bias, &up_bias, &down_bias}) {
        of_expert.push_back(matrix(*stack, e));
      }
      packed->pack(e,
                   {data(of_expert[0]), data(of_expert[1]), data(of_expert[2]), data(of_expert[3]),
                    data(of_expert[4]), data(of_expert[5])},
                   execution.pool);
    }
  });
  packed_ = std::move(packed);
}

void MlpExpertsImpl::set_networks(const FfnParameters& networks) {
  const torch::NoGradGuard no_grad;
  const auto own = parameters_of(*this);
  const auto fill = [](torch::Tensor to, const torch::Tensor& from) {
    if (to.defined()) to.copy_(from);
  };
  fill(own.gate, networks.gate);
  fill(own.up, networks.up);
  fill(own.down, networks.down);
  fill(own.gate_bias, networks.gate_bias);
  fill(own.up_bias, networks.up_bias);
  fill(own.down_bias, networks.down_bias);
  unpack();
}

void MlpExpertsImpl::take_experts(ExpertEdit& edit) {
  for (auto* parameter : {&gate_proj, &up_proj, &down_proj, &gate_bias, &up_bias, &down_bias}) {
    edit.take_rows(*parameter);
  }
  edit.then([this, experts = edit.index.numel()] {
    options.num_experts(experts);
    unpack();
  });
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
  if (options.activation() != Activation::kIdentity || options.weights() != WeightLevels::kFloat) {
    return std::nullopt;
  }
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
