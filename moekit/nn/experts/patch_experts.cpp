#include "moekit/nn/experts/patch_experts.h"

#include <torch/autograd.h>

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/kernels/patch/patch_responses.h"
#include "moekit/nn/composed_gradient.h"
#include "moekit/nn/grouped_linear.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

/// The bank composed of libtorch's operations. @param patches [N, P, d] @param rows [R]; undefined
/// or empty: in order
torch::Tensor composed_responses(const torch::Tensor& patches, const torch::Tensor& rows,
                                 const torch::Tensor& weight, const torch::Tensor& bias,
                                 const std::vector<int64_t>& offsets, int64_t num_classes,
                                 Activation activation) {
  const bool in_order = !rows.defined() || (rows.numel() == 0 && offsets.back() > 0);
  const auto chosen = in_order ? patches : patches.index_select(0, rows);
  std::vector<int64_t> of_patches = offsets;
  for (int64_t& offset : of_patches) offset *= chosen.size(1);
  const auto z = grouped_linear(chosen.flatten(0, 1), weight, bias, of_patches);
  return activate(z, activation)
      .view({chosen.size(0), chosen.size(1), num_classes, weight.size(1) / num_classes})
      .sum(at::IntArrayRef{1, 3});
}

/// The whole bank as one node on the kernel, which reads samples where they lie. The backward pass
/// computes the responses again. No gradient for samples.
class PatchResponses : public torch::autograd::Function<PatchResponses> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& samples,
                               const torch::Tensor& rows, const torch::Tensor& weight,
                               const torch::Tensor& bias, const std::vector<int64_t>& offsets,
                               int64_t num_classes, int64_t activation) {
    const auto shape = shape_of(samples, weight, num_classes, activation);
    auto out = torch::empty({offsets.back(), num_classes}, samples.options());
    for_experts(samples, rows, offsets,
                [&](int64_t e, auto* from, auto* index, int64_t begin, int64_t count) {
                  kernels::patch_responses_forward(
                      shape, from, index, count, weight[e].data_ptr<float>(),
                      bias[e].data_ptr<float>(), out.data_ptr<float>() + begin * num_classes);
                });
    // Every patch of a sample meets every filter of its expert.
    tensor::count_operations(2 * static_cast<double>(offsets.back() * samples.size(1)) *
                             static_cast<double>(weight.size(1) * weight.size(2)));
    ctx->save_for_backward({samples, rows, weight, bias});
    ctx->saved_data["offsets"] = offsets;
    ctx->saved_data["num_classes"] = num_classes;
    ctx->saved_data["activation"] = activation;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto &samples = saved[0], &rows = saved[1], &weight = saved[2], &bias = saved[3];
    const auto offsets = ctx->saved_data["offsets"].toIntVector();
    const int64_t num_classes = ctx->saved_data["num_classes"].toInt();
    const auto shape =
        shape_of(samples, weight, num_classes, ctx->saved_data["activation"].toInt());
    const torch::Tensor none;
    if (at::GradMode::is_enabled()) {
      const auto found = composed_gradient({weight, bias}, grads[0], [&](const auto& of) {
        return composed_responses(samples, rows, of[0], of[1], offsets, num_classes,
                                  shape.activation);
      });
      return {none, none, found[0], found[1], none, none, none};
    }
    const auto grad = grads[0].contiguous();
    const auto grad_weight = torch::zeros_like(weight, torch::kFloat64);
    const auto grad_bias = torch::zeros_like(bias, torch::kFloat64);
    for_experts(samples, rows, offsets,
                [&](int64_t e, auto* from, auto* index, int64_t begin, int64_t count) {
                  kernels::patch_responses_backward(
                      shape, from, index, count, weight[e].data_ptr<float>(),
                      bias[e].data_ptr<float>(), grad.data_ptr<float>() + begin * num_classes,
                      grad_weight[e].data_ptr<double>(), grad_bias[e].data_ptr<double>());
                });
    return {none, none, grad_weight.to(torch::kFloat32), grad_bias.to(torch::kFloat32), none,
            none, none};
  }

 private:
  static kernels::PatchShape shape_of(const torch::Tensor& samples, const torch::Tensor& weight,
                                      int64_t num_classes, int64_t activation) {
    return {samples.size(1), samples.size(2), num_classes, weight.size(1) / num_classes,
            static_cast<Activation>(activation)};
  }
  /// Calls `run` for every expert with assignments; an expert without any is not touched.
  template <typename Run>
  static void for_experts(const torch::Tensor& samples, const torch::Tensor& rows,
                          const std::vector<int64_t>& offsets, Run&& run) {
    for (size_t e = 0; e + 1 < offsets.size(); ++e) {
      const int64_t begin = offsets[e];
      const int64_t count = offsets[e + 1] - begin;
      if (count == 0) continue;
      const bool in_order = rows.numel() == 0;
      const float* from =
          samples.data_ptr<float>() + (in_order ? begin * samples.size(1) * samples.size(2) : 0);
      run(static_cast<int64_t>(e), from, in_order ? nullptr : rows.data_ptr<int64_t>() + begin,
          begin, count);
    }
  }
};

}  // namespace

PatchExpertsImpl::PatchExpertsImpl(PatchExpertsOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(options.dim() >= 1 && options.num_classes() >= 1 && options.num_experts() >= 1 &&
                   options.num_filters() >= 1,
               "PatchExperts: sizes must be at least 1; got dim ", options.dim(), ", num_classes ",
               options.num_classes(), ", num_experts ", options.num_experts(), ", num_filters ",
               options.num_filters());
  MOEKIT_CHECK(!is_gated(options.activation()), "PatchExperts: activation \"",
               enum_name(options.activation()), "\" is a gated one; wanted a plain one");
  reset();
}

void PatchExpertsImpl::reset() {
  const int64_t filters = options.num_classes() * options.num_filters();
  weight =
      register_parameter("weight", torch::empty({options.num_experts(), filters, options.dim()}));
  bias = register_parameter("bias", torch::empty({options.num_experts(), filters}));
  reset_parameters({});
}

void PatchExpertsImpl::reset_parameters(const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  for (auto* parameter : {&weight, &bias}) {
    init_uniform_fan_in(*parameter, options.dim(), generator);
    parameter->mul_(options.init_scale());
  }
}

torch::Tensor PatchExpertsImpl::run(const torch::Tensor& samples, const torch::Tensor& rows,
                                    const std::vector<int64_t>& offsets) {
  MOEKIT_CHECK(samples.dim() >= 3 && samples.size(-1) == options.dim() &&
                   samples.scalar_type() == weight.scalar_type(),
               "PatchExperts: samples must be [N, P, ", options.dim(), "] ", weight.dtype(),
               "; got ", samples.sizes(), " ", samples.dtype());
  const auto patches = samples.flatten(1, -2).contiguous();
  const auto activation = options.activation();
  // The kernel takes float and gives samples no gradient.
  const bool fused = kernels::has_patch_kernel(activation) &&
                     samples.scalar_type() == torch::kFloat32 &&
                     !(at::GradMode::is_enabled() && samples.requires_grad());
  if (activation != Activation::kIdentity && !fused) {
    return composed_responses(patches, rows, weight, bias, offsets, options.num_classes(),
                              activation);
  }
  if (activation == Activation::kIdentity) {
    // sum_j sum_p (w_j x_p + b_j) = (sum_j w_j) (sum_p x_p) + P sum_j b_j
    const auto count = static_cast<double>(patches.size(1));
    const auto summed = patches.sum(1);
    const auto per_class = [&](const torch::Tensor& of) {
      return of.unflatten(1, {options.num_classes(), options.num_filters()}).sum(2);
    };
    return grouped_linear(rows.defined() ? summed.index_select(0, rows) : summed, per_class(weight),
                          per_class(bias) * count, offsets);
  }
  // An autograd node takes no undefined tensor: an empty one stands for "in order".
  const auto index = rows.defined() ? rows.contiguous() : torch::empty({0}, torch::kLong);
  return PatchResponses::apply(patches, index, weight, bias, offsets, options.num_classes(),
                               static_cast<int64_t>(activation));
}

torch::Tensor PatchExpertsImpl::forward_dispatched(const torch::Tensor& tokens,
                                                   const RoutingPlan& plan) {
  return run(tokens, plan_tokens(plan), plan.offsets);
}

torch::Tensor PatchExpertsImpl::forward_routed(const torch::Tensor& rows, const RoutingPlan& plan) {
  return run(rows, {}, plan.offsets);
}

ExpertOutput PatchExpertsImpl::forward_all(const torch::Tensor& samples) {
  std::vector<torch::Tensor> outputs;
  for (int64_t e = 0; e < num_experts(); ++e) {
    std::vector<int64_t> offsets(static_cast<size_t>(num_experts()) + 1, 0);
    std::fill(offsets.begin() + e + 1, offsets.end(), samples.size(0));
    outputs.push_back(run(samples, {}, offsets));
  }
  return {torch::stack(outputs), {}};
}

std::optional<std::vector<HiddenUnits>> PatchExpertsImpl::hidden_units() const {
  const int64_t filters = options.num_filters();
  std::vector<HiddenUnits> classes;
  for (int64_t c = 0; c < options.num_classes(); ++c) {
    classes.push_back({filters, {{"weight", 0, c * filters}, {"bias", 0, c * filters}}});
  }
  return classes;
}

void PatchExpertsImpl::take_experts(ExpertEdit& edit) {
  edit.take_rows(weight);
  edit.take_rows(bias);
  edit.then([this, experts = edit.index.numel()] { options.num_experts(experts); });
}

void check_patch_experts(const PatchExpertsOptions& options, const LayerSite& site,
                         const std::string& where) {
  MOEKIT_CHECK(site.is_image() && site.input[0] == 1, where,
               ".kind = \"patch\" takes one-channel samples, each row a patch; got ",
               site.is_image() ? concat(site.input[0], " channels") : "vectors");
  MOEKIT_CHECK(options.num_filters() >= 1 && options.init_scale() > 0, where,
               ": num_filters must be at least 1 and init_scale positive; got ",
               options.num_filters(), " and ", options.init_scale());
  MOEKIT_CHECK(!is_gated(options.activation()), where, ".activation: \"",
               enum_name(options.activation()),
               "\" is a gated one, which patch experts do not take");
}

std::shared_ptr<ExpertsImpl> make_patch_experts(const PatchExpertsOptions& options,
                                                const LayerSite& site) {
  return std::make_shared<PatchExpertsImpl>(PatchExpertsOptions(options)
                                                .dim(site.input[2])
                                                .num_classes(site.output_size)
                                                .num_experts(site.num_experts));
}

}  // namespace moekit::nn
