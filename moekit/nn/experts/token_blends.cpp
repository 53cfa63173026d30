#include "moekit/nn/experts/token_blends.h"

#include <torch/autograd.h>
#include <torch/custom_class.h>

#include <cmath>
#include <cstring>

#include "moekit/core/error.h"
#include "moekit/nn/composed_gradient.h"

namespace moekit::nn {
namespace {

struct BlendCall : torch::CustomClassHolder {
  RoutingPlan plan;
  BlendExperts experts;
};

/// Sums of products, sixteen side by side: one after the other they would wait for each other.
float dot(const float* a, const float* b, int64_t size) {
  using Sixteen = float __attribute__((vector_size(64)));
  constexpr int64_t kLanes = 16;
  Sixteen sums{};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    Sixteen x, y;
    std::memcpy(&x, a + i, sizeof(x));
    std::memcpy(&y, b + i, sizeof(y));
    sums += x * y;
  }
  float sum = 0;
  for (int l = 0; l < kLanes; ++l) sum += sums[l];
  for (; i < size; ++i) sum += a[i] * b[i];
  return sum;
}

void add(float* to, float factor, const float* from, int64_t size) {
  for (int64_t i = 0; i < size; ++i) to[i] += factor * from[i];
}

/// What a constant expert does with one token.
struct Blend {
  const float* v;
  const float* map;  ///< W_c [2, D]
  float a[2];

  Blend(const float* v_, const float* map_, const float* x, int64_t size) : v(v_), map(map_) {
    const float ahead = dot(map, x, size) - dot(map + size, x, size);
    a[0] = 1 / (1 + std::exp(-ahead));
    a[1] = 1 / (1 + std::exp(ahead));
  }
};

class TokenBlends : public torch::autograd::Function<TokenBlends> {
 public:
  /// @param constant, blend  empty where there is none: a node takes no undefined tensors
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& tokens,
                               const torch::Tensor& weight, const torch::Tensor& constant,
                               const torch::Tensor& blend,
                               const c10::intrusive_ptr<BlendCall>& call) {
    auto out = torch::zeros(tokens.sizes(), tokens.options());
    const int64_t size = tokens.size(1);
    auto* y = out.data_ptr<float>();
    each_row(*call, tokens, weight, constant, blend,
             [&](int64_t token, int64_t, float w, const float* x, const Blend* of, int64_t) {
               float* to = y + token * size;
               add(to, of == nullptr ? w : w * of->a[0], x, size);
               if (of != nullptr) add(to, w * of->a[1], of->v, size);
             });
    ctx->save_for_backward({tokens, weight, constant, blend});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["call"].toCapsule();
    const auto& call = static_cast<const BlendCall&>(*capsule);
    if (at::GradMode::is_enabled()) {
      auto out = composed_gradient(saved, grads[0], [&](const torch::autograd::variable_list& of) {
        return composed_blends(of[0], of[1], of[2], of[3], call.plan, call.experts);
      });
      out.emplace_back();  // for the call
      return out;
    }
    const auto& tokens = saved[0];
    const int64_t size = tokens.size(1);
    const auto grad = grads[0].contiguous();
    const auto zeros_like = [](const torch::Tensor& t) {
      return torch::zeros(t.sizes(), t.options().requires_grad(false));
    };
    const auto of_tokens = zeros_like(tokens);
    const auto of_weight = zeros_like(saved[1]);
    const auto of_constant = zeros_like(saved[2]);
    const auto of_blend = zeros_like(saved[3]);
    const auto* g_all = grad.data_ptr<float>();
    auto* dx_all = of_tokens.data_ptr<float>();
    auto* dw = of_weight.data_ptr<float>();
    each_row(call, tokens, saved[1], saved[2], saved[3],
             [&](int64_t token, int64_t assignment, float w, const float* x, const Blend* of,
                 int64_t which) {
               const float* g = g_all + token * size;
               float* dx = dx_all + token * size;
               const float of_x = dot(g, x, size);
               if (of == nullptr) {
                 dw[assignment] = of_x;
                 return add(dx, w, g, size);
               }
               const float of_v = dot(g, of->v, size);
               dw[assignment] = of->a[0] * of_x + of->a[1] * of_v;
               add(of_constant.data_ptr<float>() + which * size, w * of->a[1], g, size);
               add(dx, w * of->a[0], g, size);
               // Of the softmax' first input; the second's is its negative.
               const float slope = w * of->a[0] * of->a[1] * (of_x - of_v);
               float* map = of_blend.data_ptr<float>() + 2 * which * size;
               for (int64_t i = 0; i < size; ++i) {
                 dx[i] += slope * (of->map[i] - of->map[size + i]);
                 map[i] += slope * x[i];
                 map[size + i] -= slope * x[i];
               }
             });
    return {of_tokens, of_weight, of_constant, of_blend, torch::Tensor()};
  }

 private:
  /// work(token, assignment, weight, x, blend or null for a copy, which constant expert)
  template <typename Work>
  static void each_row(const BlendCall& call, const torch::Tensor& tokens,
                       const torch::Tensor& weight, const torch::Tensor& constant,
                       const torch::Tensor& blend, const Work& work) {
    const int64_t size = tokens.size(1);
    const auto* x = tokens.data_ptr<float>();
    const auto* w = weight.data_ptr<float>();
    for (int64_t i = 0; i < call.experts.constants + call.experts.copies; ++i) {
      const auto e = static_cast<size_t>(call.experts.first + i);
      for (int64_t r = call.plan.offsets[e]; r < call.plan.offsets[e + 1]; ++r) {
        const int64_t token = call.plan.token[static_cast<size_t>(r)];
        const int64_t assignment = call.plan.assignment[static_cast<size_t>(r)];
        const float* row = x + token * size;
        if (i >= call.experts.constants) {
          work(token, assignment, w[assignment], row, nullptr, i);
          continue;
        }
        const Blend of(constant.data_ptr<float>() + i * size,
                       blend.data_ptr<float>() + 2 * i * size, row, size);
        work(token, assignment, w[assignment], row, &of, i);
      }
    }
  }
};

}  // namespace

torch::Tensor constant_rows(const torch::Tensor& rows, const torch::Tensor& constant,
                            const torch::Tensor& blend, int64_t which) {
  const auto shares = torch::softmax(rows.matmul(blend[which].t()), 1);  // [R, 2]
  return shares.narrow(1, 0, 1) * rows + shares.narrow(1, 1, 1) * constant[which];
}

torch::Tensor composed_blends(const torch::Tensor& tokens, const torch::Tensor& weight,
                              const torch::Tensor& constant, const torch::Tensor& blend,
                              const RoutingPlan& plan, const BlendExperts& experts) {
  auto out = torch::zeros_like(tokens);
  const auto token = plan_tokens(plan);
  const auto assignment = plan_assignments(plan);
  for (int64_t i = 0; i < experts.constants + experts.copies; ++i) {
    const int64_t e = experts.first + i;
    const int64_t begin = plan.offsets[static_cast<size_t>(e)];
    const auto of = token.narrow(0, begin, plan.count(e));
    const auto weights = weight.index_select(0, assignment.narrow(0, begin, plan.count(e)));
    const auto rows = tokens.index_select(0, of);
    const auto values = i < experts.constants ? constant_rows(rows, constant, blend, i) : rows;
    out = out.index_add(0, of, values * weights.unsqueeze(1).to(values.scalar_type()));
  }
  return out;
}

torch::Tensor blend_tokens(const torch::Tensor& tokens, const torch::Tensor& weight,
                           const torch::Tensor& constant, const torch::Tensor& blend,
                           const RoutingPlan& plan, const BlendExperts& experts) {
  MOEKIT_CHECK(tokens.dim() == 2 && tokens.scalar_type() == torch::kFloat32 && weight.dim() == 1 &&
                   weight.size(0) == plan.num_assignments,
               "blend_tokens: wants tokens [N, D] float32 and weight [", plan.num_assignments,
               "]; got ", tokens.sizes(), " ", tokens.dtype(), " and ", weight.sizes());
  auto call = c10::make_intrusive<BlendCall>();
  call->plan = plan;
  call->experts = experts;
  const auto or_empty = [&](const torch::Tensor& p) {
    return p.defined() ? p.contiguous() : tokens.new_empty({0});
  };
  return TokenBlends::apply(tokens.contiguous(), weight.to(torch::kFloat32).contiguous(),
                            or_empty(constant), or_empty(blend), call);
}

}  // namespace moekit::nn
