#include "moekit/nn/experts/packed_mlp_experts.h"

#include <torch/torch.h>

#include <vector>

#include "moekit/core/error.h"
#include "moekit/nn/grouped_linear.h"

namespace moekit::nn {

torch::Tensor forward_packed(const kernels::PackedExperts& experts, const torch::Tensor& tokens,
                             const RoutingPlan& plan, const torch::Tensor& weight,
                             const std::shared_ptr<Runtime>& runtime) {
  const auto& shape = experts.shape();
  MOEKIT_CHECK(!at::GradMode::is_enabled() || (!tokens.requires_grad() && !weight.requires_grad()),
               "MlpExperts: packed experts have no gradient; unpack() them first");
  MOEKIT_CHECK(tokens.dim() == 2 && tokens.size(1) == shape.hidden_size && tokens.is_cpu() &&
                   tokens.scalar_type() == torch::kFloat32,
               "MlpExperts: packed experts take float tokens [N, ", shape.hidden_size,
               "] on the CPU; got ", tokens.dtype(), " ", tokens.sizes());
  const auto rows = tokens.contiguous();
  const auto plan_with_weights = weighted(plan, weight);
  auto output = torch::empty({rows.size(0), shape.output_size}, rows.options());
  runtime->run([&](const kernels::Execution& execution) {
    kernels::expert_ffn_forward({{&experts, &plan_with_weights}}, rows.data_ptr<float>(),
                                output.data_ptr<float>(), execution);
  });
  return output;
}

PackedMlpExpertsImpl::PackedMlpExpertsImpl(const kernels::FfnShape& shape,
                                           kernels::WeightFormat format)
    : packed_(std::make_shared<kernels::PackedExperts>(shape, format)) {}

void PackedMlpExpertsImpl::set_expert(int64_t expert, const torch::Tensor& gate,
                                      const torch::Tensor& up, const torch::Tensor& down) {
  const auto& shape = packed_->shape();
  const std::vector<int64_t> in{shape.intermediate_size, shape.hidden_size};
  const std::vector<int64_t> out{shape.output_size, shape.intermediate_size};
  const auto check = [](const char* name, const torch::Tensor& matrix,
                        const std::vector<int64_t>& sizes) {
    MOEKIT_CHECK(
        matrix.defined() && matrix.sizes() == sizes && matrix.scalar_type() == torch::kFloat32,
        "PackedMlpExperts: ", name, " must be float32 ", at::IntArrayRef(sizes), "; got ",
        matrix.defined() ? concat(matrix.dtype(), " ", matrix.sizes()) : "none");
  };
  if (is_gated(shape.activation)) check("gate", gate, in);
  check("up", up, in);
  check("down", down, out);
  const torch::NoGradGuard no_grad;
  const auto g = gate.defined() ? gate.contiguous() : gate;
  const auto u = up.contiguous();
  const auto d = down.contiguous();
  Runtime::standard()->run([&](const kernels::Execution& execution) {
    packed_->pack(
        expert,
        {g.defined() ? g.data_ptr<float>() : nullptr, u.data_ptr<float>(), d.data_ptr<float>()},
        execution.pool);
  });
}

ExpertOutput PackedMlpExpertsImpl::forward_all(const torch::Tensor& tokens) {
  std::vector<torch::Tensor> values;
  for (int64_t e = 0; e < num_experts(); ++e) {
    values.push_back(forward_each(*this, tokens, torch::full({tokens.size(0)}, e, torch::kLong)));
  }
  return {torch::stack(values), {}};
}

torch::Tensor PackedMlpExpertsImpl::forward_routed(const torch::Tensor& rows,
                                                   const RoutingPlan& plan) {
  return forward_each(*this, rows, expert_of_rows(plan.offsets));
}

torch::Tensor PackedMlpExpertsImpl::forward_fused(const torch::Tensor& tokens,
                                                  const RoutingPlan& plan,
                                                  const torch::Tensor& weight,
                                                  const std::shared_ptr<Runtime>& runtime) {
  return forward_packed(*packed_, tokens, plan, weight, runtime);
}

void PackedMlpExpertsImpl::take_experts(ExpertEdit& edit) {
  auto shape = packed_->shape();
  shape.num_experts = edit.index.size(0);
  auto taken = std::make_shared<kernels::PackedExperts>(shape, packed_->format());
  for (int64_t e = 0; e < shape.num_experts; ++e) {
    taken->copy(e, *packed_, edit.index[e].item<int64_t>());
  }
  edit.then([this, taken] { packed_ = taken; });
}

}  // namespace moekit::nn
