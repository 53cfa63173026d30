#include "moekit/tasks/language/judged_batches.h"

#include <algorithm>

namespace moekit::language {

void for_judged(models::DecoderImpl& model, const TextData& data, const Config& config,
                int64_t count, int64_t batch, const std::function<void(const JudgedBatch&)>& work) {
  const torch::NoGradGuard no_grad;
  model.eval();
  const int64_t length = config.model.context;
  for (size_t d = 0; d < data.domains.size(); ++d) {
    const auto all = data.judged(d, count, length, config.data.documents);
    for (int64_t begin = 0; begin < all.ids.size(0); begin += batch) {
      const int64_t rows = std::min(batch, all.ids.size(0) - begin);
      const auto part = [&](const torch::Tensor& of) {
        return of.defined() ? of.narrow(0, begin, rows) : of;
      };
      JudgedBatch out{d, {part(all.ids), part(all.first), part(all.domain), part(all.answer)}, {}};
      const auto ids = out.windows.ids.narrow(1, 0, length).contiguous();
      nn::RouterContext context;
      context.task_id = torch::full_like(ids, static_cast<int64_t>(d));
      out.output = model.forward_hidden(ids, context, out.windows.first);
      work(out);
    }
  }
}

}  // namespace moekit::language
