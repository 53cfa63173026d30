#include "moekit/nn/attention.h"

#include <torch/autograd.h>
#include <torch/custom_class.h>

#include <limits>

#include "moekit/core/error.h"
#include "moekit/kernels/attention/attention.h"
#include "moekit/nn/composed_gradient.h"
#include "moekit/nn/precision.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

void check(const torch::Tensor& queries, const torch::Tensor& keys, const torch::Tensor& values,
           const torch::Tensor& first) {
  MOEKIT_CHECK(queries.dim() == 4 && keys.dim() == 4 && values.dim() == 4,
               "attention: queries, keys and values must be [B, T, heads, dim]; got ",
               queries.sizes(), ", ", keys.sizes(), ", ", values.sizes());
  MOEKIT_CHECK(keys.size(0) == queries.size(0) && values.size(0) == queries.size(0) &&
                   keys.size(1) == values.size(1) && keys.size(1) >= queries.size(1) &&
                   keys.size(2) == values.size(2) && keys.size(2) >= 1 &&
                   queries.size(2) % keys.size(2) == 0 && keys.size(3) == queries.size(3),
               "attention: sizes do not fit: queries ", queries.sizes(), ", keys ", keys.sizes(),
               ", values ", values.sizes());
  MOEKIT_CHECK(
      !first.defined() || (first.dim() == 2 && first.size(0) == queries.size(0) &&
                           first.size(1) == queries.size(1) && first.scalar_type() == torch::kInt),
      "attention: first positions must be int32 [B, Tq]");
}

/// As it is where a position's heads and their values lie one after the other.
torch::Tensor with_rows(const torch::Tensor& x) {
  const bool rows = x.stride(3) == 1 && x.stride(2) == x.size(3) &&
                    x.stride(0) == x.size(1) * x.stride(1) && x.stride(1) >= x.size(2) * x.size(3);
  return rows ? x : x.contiguous();
}

kernels::AttentionRows rows_of(const torch::Tensor& x) {
  return {x.data_ptr(), x.stride(1), x.scalar_type() == torch::kBFloat16};
}

struct AttentionCall : torch::CustomClassHolder {
  std::shared_ptr<Runtime> runtime;
  double scale = 1;
};

kernels::AttentionShape shape_of(const torch::Tensor& queries, const torch::Tensor& keys,
                                 const torch::Tensor& values, double scale) {
  return {queries.size(0), queries.size(1), keys.size(1),   queries.size(2),
          keys.size(2),    keys.size(3),    values.size(3), static_cast<float>(scale)};
}

kernels::AttentionInputs inputs_of(const torch::Tensor& queries, const torch::Tensor& keys,
                                   const torch::Tensor& values, const torch::Tensor& first) {
  return {rows_of(queries), rows_of(keys), rows_of(values),
          first.numel() > 0 ? first.data_ptr<int32_t>() : nullptr};
}

class FusedAttention : public torch::autograd::Function<FusedAttention> {
 public:
  /// @param first  empty for none: a node takes no undefined tensors
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& queries,
                               const torch::Tensor& keys, const torch::Tensor& values,
                               const torch::Tensor& first,
                               const c10::intrusive_ptr<AttentionCall>& call) {
    const auto shape = shape_of(queries, keys, values, call->scale);
    const auto floats = queries.options().dtype(torch::kFloat32);
    auto output = torch::empty({shape.batch, shape.queries, shape.heads, shape.value_dim}, floats);
    auto normalizer = torch::empty({shape.batch, shape.heads, shape.queries}, floats);
    call->runtime->run([&](const kernels::Execution& execution) {
      kernels::attention_forward(shape, inputs_of(queries, keys, values, first),
                                 output.data_ptr<float>(), normalizer.data_ptr<float>(),
                                 *execution.pool, execution.workspace->slab(), execution.paths.f32);
    });
    // Of a pair of positions, query and key, of which a query sees the half: two products.
    const double pairs =
        static_cast<double>(shape.batch * shape.heads * shape.queries) *
        (static_cast<double>(shape.keys) - (static_cast<double>(shape.queries) - 1) / 2);
    tensor::count_operations(2 * pairs * static_cast<double>(shape.head_dim + shape.value_dim));
    ctx->save_for_backward({queries, keys, values, first, output, normalizer});
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    return output.to(queries.scalar_type());
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto capsule = ctx->saved_data["call"].toCapsule();
    auto& call = static_cast<AttentionCall&>(*capsule);
    const auto& [queries, keys, values, first] = std::tie(saved[0], saved[1], saved[2], saved[3]);
    if (at::GradMode::is_enabled()) {
      AttentionSettings settings;
      settings.scale = call.scale;
      if (first.numel() > 0) settings.first = first;
      auto out = composed_gradient({queries, keys, values}, grads[0], [&](const auto& views) {
        return composed_attention(views[0], views[1], views[2], settings);
      });
      out.resize(5);
      return out;
    }
    const auto shape = shape_of(queries, keys, values, call.scale);
    const auto grad_output = grads[0].to(torch::kFloat32).contiguous();
    const auto like = [](const torch::Tensor& x) {
      return torch::empty(x.sizes(), x.options().dtype(torch::kFloat32));
    };
    auto grad_queries = like(queries);
    auto grad_keys = like(keys);
    auto grad_values = like(values);
    call.runtime->run([&](const kernels::Execution& execution) {
      kernels::attention_backward(shape, inputs_of(queries, keys, values, first),
                                  saved[4].data_ptr<float>(), saved[5].data_ptr<float>(),
                                  grad_output.data_ptr<float>(),
                                  {grad_queries.data_ptr<float>(), grad_keys.data_ptr<float>(),
                                   grad_values.data_ptr<float>()},
                                  *execution.pool, execution.workspace->slab(), execution.paths.f32);
    });
    const auto type = queries.scalar_type();
    return {grad_queries.to(type), grad_keys.to(type), grad_values.to(type), torch::Tensor(),
            torch::Tensor()};
  }
};

}  // namespace

std::string why_attention_not_fused(const torch::Tensor& queries, const torch::Tensor& keys,
                                    const torch::Tensor& values) {
  const auto type = queries.scalar_type();
  for (const auto* x : {&queries, &keys, &values}) {
    if (x->scalar_type() != type || (type != torch::kFloat32 && type != torch::kBFloat16)) {
      return "the kernel takes float32 or bfloat16, queries, keys and values alike";
    }
    if (!x->device().is_cpu()) return "the kernel runs on the CPU";
  }
  return {};
}

torch::Tensor composed_attention(const torch::Tensor& queries, const torch::Tensor& keys,
                                 const torch::Tensor& values, const AttentionSettings& settings) {
  check(queries, keys, values, settings.first);
  const int64_t last = keys.size(1);
  const int64_t first = last - queries.size(1);
  const int64_t group = queries.size(2) / keys.size(2);
  // [B, H, T, dim], a key head for each query head
  const auto heads = [](const torch::Tensor& x) { return at_least_float(x).transpose(1, 2); };
  const auto grouped = [&](const torch::Tensor& x) {
    return group == 1 ? heads(x) : heads(x).repeat_interleave(group, 1);
  };
  const auto key = torch::arange(last);
  auto hidden = key.unsqueeze(0).gt(torch::arange(first, last).unsqueeze(1));  // [Tq, Tk]
  if (settings.first.defined()) {
    hidden = hidden.logical_or(key.lt(settings.first.unsqueeze(2))).unsqueeze(1);  // [B, 1, Tq, Tk]
  }
  const auto scores = (heads(queries).matmul(grouped(keys).transpose(2, 3)) * settings.scale)
                          .masked_fill(hidden, -std::numeric_limits<float>::infinity());
  // A row of hidden keys alone is NaN, and its gradient too, unless both are taken out.
  auto probs = torch::softmax(scores.masked_fill(hidden.all(-1, true), 0), 3);
  if (settings.first.defined()) probs = probs.masked_fill(hidden.all(-1, true), 0);
  return probs.matmul(grouped(values)).transpose(1, 2).to(queries.scalar_type());
}

torch::Tensor causal_attention(const torch::Tensor& queries, const torch::Tensor& keys,
                               const torch::Tensor& values, const AttentionSettings& settings) {
  check(queries, keys, values, settings.first);
  if (!settings.fused || !why_attention_not_fused(queries, keys, values).empty()) {
    return composed_attention(queries, keys, values, settings);
  }
  auto call = c10::make_intrusive<AttentionCall>();
  call->runtime = settings.runtime;
  call->scale = settings.scale;
  return FusedAttention::apply(
      with_rows(queries), with_rows(keys), with_rows(values),
      settings.first.defined() ? settings.first.contiguous() : torch::empty({0}, torch::kInt),
      call);
}

}  // namespace moekit::nn
