#include "moekit/nn/fused_ffn.h"

#include <torch/autograd.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/kernels/ffn/expert_ffn.h"
#include "moekit/nn/composed_gradient.h"
#include "moekit/nn/grouped_linear.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {

struct FusedFfn::Memory {
  std::mutex mutex;
  std::vector<kernels::Slab> free;

  /// A slab that was used before, or a new one, of that size or little more: sizes are rounded up
  /// to an eighth of their power of two. Under a capacity steps have other numbers of rows; a slab
  /// of each would be kept as long as the layer lives.
  kernels::Slab take(size_t wanted) {
    const size_t unit = std::max<size_t>(4096, std::bit_floor(wanted) / 8);
    const size_t bytes = (wanted + unit - 1) / unit * unit;
    const std::lock_guard lock(mutex);
    for (auto& slab : free) {
      if (slab.size() != bytes) continue;
      auto found = std::move(slab);
      slab = std::move(free.back());
      free.pop_back();
      return found;
    }
    return kernels::Slab(bytes);
  }
  void give_back(kernels::Slab slab) {
    const std::lock_guard lock(mutex);
    free.push_back(std::move(slab));
  }
};

namespace {

using Memory = std::shared_ptr<FusedFfn::Memory>;

/// What the backward pass needs besides tensors.
struct Call : torch::CustomClassHolder {
  Memory memory;
  std::shared_ptr<Runtime> runtime;
  kernels::FfnShape shape{};
  kernels::ComputeType compute{};
  kernels::RoutingPlan plan;
  std::optional<kernels::FfnTape> tape;
  std::array<bool, 3> wants{};  ///< gradients of tokens, weights, parameters

  ~Call() override {
    if (tape && tape->memory().size() > 0) memory->give_back(std::move(tape->memory()));
  }
};

float* data_of(const torch::Tensor& tensor) {
  return tensor.numel() > 0 ? tensor.data_ptr<float>() : nullptr;
}

template <typename Matrices>
Matrices matrices_of(const std::vector<torch::Tensor>& p) {
  return {data_of(p[0]), data_of(p[1]), data_of(p[2]), data_of(p[3]), data_of(p[4]), data_of(p[5])};
}

/// A gradient in memory that comes back when its last tensor is gone. Experts without tokens get
/// zeros; the others are left to the kernels.
torch::Tensor make_gradient(const Memory& memory, const torch::Tensor& parameter,
                            const kernels::RoutingPlan& plan) {
  if (parameter.numel() == 0) return {};
  const auto bytes = static_cast<size_t>(parameter.nbytes());
  auto slab = std::make_shared<kernels::Slab>(memory->take(bytes));
  auto* data = slab->data();
  const auto of_expert = bytes / static_cast<size_t>(plan.num_experts);
  for (int64_t e = 0; e < plan.num_experts; ++e) {
    if (plan.count(e) == 0) std::memset(data + static_cast<size_t>(e) * of_expert, 0, of_expert);
  }
  return torch::from_blob(
      data, parameter.sizes(), [memory, slab](void*) { memory->give_back(std::move(*slab)); },
      torch::TensorOptions().dtype(torch::kFloat32));
}

class FusedFfnNode : public torch::autograd::Function<FusedFfnNode> {
 public:
  // Parameters that are absent come as empty tensors: a node takes no undefined ones.
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& tokens,
                               const torch::Tensor& weight, const torch::Tensor& gate,
                               const torch::Tensor& up, const torch::Tensor& down,
                               const torch::Tensor& gate_bias, const torch::Tensor& up_bias,
                               const torch::Tensor& down_bias,
                               const c10::intrusive_ptr<Call>& call) {
    const std::vector<torch::Tensor> parameters{gate, up, down, gate_bias, up_bias, down_bias};
    auto output = torch::empty({tokens.size(0), down.size(1)}, tokens.options());
    call->runtime->run([&](const kernels::Execution& execution) {
      kernels::expert_ffn_train_forward(bank_of(*call, parameters), data_of(tokens),
                                        data_of(output), call->tape ? &*call->tape : nullptr,
                                        execution);
    });
    double weights = 0;  // of one expert; an absent gate is empty
    for (const auto* matrix : {&gate, &up, &down}) {
      weights += static_cast<double>(matrix->numel()) / static_cast<double>(down.size(0));
    }
    tensor::count_operations(2 * static_cast<double>(call->plan.num_rows()) * weights);
    ctx->save_for_backward({tokens, weight, gate, up, down, gate_bias, up_bias, down_bias});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& tokens = saved[0];
    const std::vector<torch::Tensor> parameters(saved.begin() + 2, saved.end());
    const auto capsule = ctx->saved_data["call"].toCapsule();
    auto& call = static_cast<Call&>(*capsule);
    if (at::GradMode::is_enabled()) return composed_backward(call, saved, grads[0]);
    const auto grad_output = grads[0].contiguous();
    const auto grad_tokens = call.wants[0] ? torch::empty_like(tokens) : torch::Tensor();
    const auto grad_weight = call.wants[1]
                                 ? torch::empty({call.plan.num_assignments}, tokens.options())
                                 : torch::Tensor();
    std::vector<torch::Tensor> grad_parameters(6);
    kernels::FfnGradients gradients;
    if (call.wants[0]) gradients.tokens = data_of(grad_tokens);
    if (call.wants[1]) gradients.combine_weight = data_of(grad_weight);
    if (call.wants[2]) {
      for (size_t i = 0; i < 6; ++i) {
        grad_parameters[i] = make_gradient(call.memory, parameters[i], call.plan);
        if (!grad_parameters[i].defined()) grad_parameters[i] = torch::empty({0});
      }
      gradients.parameters = matrices_of<kernels::MutableExpertMatrices>(grad_parameters);
    }
    call.runtime->run([&](const kernels::Execution& execution) {
      kernels::expert_ffn_backward(bank_of(call, parameters), data_of(tokens), data_of(grad_output),
                                   *call.tape, gradients, execution);
    });
    torch::autograd::variable_list out{grad_tokens, grad_weight};
    for (size_t i = 0; i < 6; ++i) {
      out.push_back(parameters[i].numel() > 0 ? grad_parameters[i] : torch::Tensor());
    }
    out.emplace_back();
    return out;
  }

 private:
  static torch::autograd::variable_list composed_backward(
      const Call& call, const torch::autograd::variable_list& saved, const torch::Tensor& grad) {
    auto out = composed_gradient(saved, grad, [&](const torch::autograd::variable_list& of) {
      const auto or_none = [](const torch::Tensor& p) {
        return p.numel() > 0 ? p : torch::Tensor();
      };
      const FfnParameters parameters{or_none(of[2]), of[3],          of[4],
                                     or_none(of[5]), or_none(of[6]), or_none(of[7])};
      return combine(composed_ffn(dispatch(of[0], call.plan), parameters, call.shape.activation,
                                  call.plan.offsets),
                     call.plan, of[1]);
    });
    out.emplace_back();  // for the call
    return out;
  }

  static kernels::TrainBank bank_of(const Call& call,
                                    const std::vector<torch::Tensor>& parameters) {
    return {call.shape, matrices_of<kernels::ExpertMatrices>(parameters), &call.plan, call.compute};
  }
};

}  // namespace

torch::Tensor composed_ffn(const torch::Tensor& rows, const FfnParameters& p, Activation activation,
                           const std::vector<int64_t>& offsets) {
  const auto up = grouped_linear(rows, p.up, p.up_bias, offsets);
  const auto hidden =
      p.gate.defined()
          ? activate(grouped_linear(rows, p.gate, p.gate_bias, offsets), activation) * up
          : activate(up, activation);
  return grouped_linear(hidden, p.down, p.down_bias, offsets);
}

std::pair<torch::Tensor, torch::Tensor> stacked_ffn(const torch::Tensor& tokens,
                                                    const FfnParameters& p, Activation activation) {
  const auto up = stacked_linear(tokens, p.up, p.up_bias);
  const auto hidden = p.gate.defined()
                          ? activate(stacked_linear(tokens, p.gate, p.gate_bias), activation) * up
                          : activate(up, activation);
  return {stacked_linear(hidden, p.down, p.down_bias), up};
}

size_t FusedFfn::kept_bytes() const {
  const std::lock_guard lock(memory_->mutex);
  size_t bytes = 0;
  for (const auto& slab : memory_->free) bytes += slab.size();
  return bytes;
}

FusedFfn::FusedFfn() : memory_(std::make_shared<Memory>()) {}
FusedFfn::FusedFfn(const FusedFfn&) : FusedFfn() {}
// NOLINTNEXTLINE(bugprone-unhandled-self-assignment): nothing is assigned
FusedFfn& FusedFfn::operator=(const FusedFfn&) { return *this; }

std::string FusedFfn::why_not(const torch::Tensor& tokens, const FfnParameters& parameters,
                              Activation activation) {
  if (!kernels::has_ffn_kernel(activation)) {
    return concat("activation ", enum_name(activation), " has no kernel");
  }
  if (kernels::default_isa() == kernels::Isa::kReference) {
    return "the kernels' instruction set is the reference, which is slower than libtorch";
  }
  if (tokens.defined()) {
    if (tokens.dim() != 2)
      return concat("tokens are ", tokens.sizes(), "; the kernels take [N, D]");
    if (!tokens.is_cpu()) return concat("tokens are on ", tokens.device());
    if (tokens.scalar_type() != torch::kFloat32) {
      return concat("tokens are ", tokens.dtype(), "; the kernels take float");
    }
  }
  for (const auto& p : {parameters.gate, parameters.up, parameters.down, parameters.gate_bias,
                        parameters.up_bias, parameters.down_bias}) {
    if (!p.defined()) continue;
    if (!p.is_cpu()) return concat("parameters are on ", p.device());
    if (p.scalar_type() != torch::kFloat32) {
      return concat("parameters are ", p.dtype(), "; the kernels take float");
    }
    if (!p.is_contiguous()) return "parameters are not contiguous";
  }
  return {};
}

torch::Tensor FusedFfn::forward(const torch::Tensor& tokens, const FfnParameters& parameters,
                                const RoutingPlan& plan, const torch::Tensor& weight,
                                Activation activation, kernels::ComputeType compute,
                                bool keep_activations, std::shared_ptr<Runtime> runtime) {
  const auto reason = why_not(tokens, parameters, activation);
  MOEKIT_CHECK(reason.empty(), "FusedFfn: ", reason);
  const auto& up = parameters.up;
  MOEKIT_CHECK(tokens.size(1) == up.size(2), "FusedFfn: tokens have ", tokens.size(1),
               " features; the experts take ", up.size(2));
  auto call = c10::make_intrusive<Call>();
  call->memory = memory_;
  call->runtime = std::move(runtime);
  call->shape = {up.size(0), up.size(2),
                 up.size(1), parameters.down.size(1),
                 activation, parameters.up_bias.defined()};
  call->compute = compute;
  call->plan = weighted(plan, weight);
  if (at::GradMode::is_enabled()) {
    bool of_parameters = false;
    for (const auto* p : {&parameters.gate, &parameters.up, &parameters.down, &parameters.gate_bias,
                          &parameters.up_bias, &parameters.down_bias}) {
      of_parameters = of_parameters || (p->defined() && p->requires_grad());
    }
    call->wants = {tokens.requires_grad(), weight.requires_grad(), of_parameters};
  }
  if (call->wants[0] || call->wants[1] || call->wants[2]) {
    if (keep_activations) {
      call->tape.emplace(memory_->take(kernels::tape_bytes(call->shape, call->plan.num_rows())));
    } else {
      call->tape.emplace(false);
    }
  }
  const auto or_empty = [&](const torch::Tensor& p) { return p.defined() ? p : up.new_empty({0}); };
  return FusedFfnNode::apply(tokens.contiguous(), weight.to(torch::kFloat32),
                             or_empty(parameters.gate), up, parameters.down,
                             or_empty(parameters.gate_bias), or_empty(parameters.up_bias),
                             or_empty(parameters.down_bias), call);
}

}  // namespace moekit::nn
