#include "moekit/nn/token_rows.h"

#include "moekit/core/error.h"

namespace moekit::nn {

TokenRows::TokenRows(const torch::Tensor& tokens_, const RouterContext& context_, int64_t token_dim)
    : tokens(tokens_), context(context_) {
  if (token_dim > 0 && tokens.dim() == token_dim + 2) {
    batch = {tokens.size(0), tokens.size(1)};
    tokens = tokens.flatten(0, 1);
    context.sequence = torch::arange(batch[0], torch::kLong).repeat_interleave(batch[1]);
  }
  total = tokens.size(0);
  for (auto* of : {&context.task_id, &context.token_id}) {
    if (of->defined()) *of = of->reshape({-1});
  }
  if (!context.mask.defined()) return;
  MOEKIT_CHECK(context.mask.scalar_type() == torch::kBool && context.mask.numel() == total,
               "mask: wanted one bool for each of ", total, " tokens; got ", context.mask.sizes(),
               " ", context.mask.dtype());
  rows = context.mask.reshape({-1}).nonzero().squeeze(1);
  tokens = tokens.index_select(0, rows);
  context = context.select(rows);
}

torch::Tensor TokenRows::restore(const torch::Tensor& values, int64_t dim) const {
  auto out = values;
  if (rows.defined()) {
    auto sizes = values.sizes().vec();
    sizes[static_cast<size_t>(dim)] = total;
    out = torch::zeros(sizes, values.options().requires_grad(false)).index_copy(dim, rows, values);
  }
  return batch.empty() ? out : out.unflatten(dim, batch);
}

}  // namespace moekit::nn
