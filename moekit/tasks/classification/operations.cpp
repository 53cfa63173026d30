#include "moekit/tasks/classification/operations.h"

#include "moekit/models/model_io.h"
#include "moekit/run/task.h"

namespace moekit::classification {

Json count_operations(const std::filesystem::path& folder, const RunData& data, int64_t batch) {
  MOEKIT_CHECK(batch >= 1 && batch <= data.test.size(), "--batch must be 1..", data.test.size(),
               ", as many as there are test images; got ", batch);
  const torch::NoGradGuard no_grad;
  const auto model = models::load_model(folder / "model");
  const auto part = data.test.slice(0, batch);
  nn::RouterContext context;
  context.task_id = part.labels;
  const auto images = data::normalize(part.images, data.normalization);
  const tensor::OperationCounter counter;
  model->forward(images, context);
  return run::operations_json(folder, batch, counter);
}

}  // namespace moekit::classification
