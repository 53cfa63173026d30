#include "moekit/tasks/classification/evaluate.h"

#include "moekit/core/random.h"
#include "moekit/metrics/specialization.h"
#include "moekit/tensor/generator.h"

namespace moekit::classification {
namespace {
constexpr int64_t kEvalBatch = 1000;

/// The class that each sample's most probable expert predicts. @param by_expert [E, N] int64
torch::Tensor selected_classes(const torch::Tensor& by_expert, const metrics::LayerTrace& layer) {
  return by_expert.gather(0, layer.top1().unsqueeze(0)).squeeze(0);
}

}  // namespace

Evaluation evaluate(models::ClassifierImpl& model, const data::ImageSet& set,
                    const data::Normalization& normalization, const EvaluateOptions& options) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.eval();
  Evaluation out;
  std::vector<torch::Tensor> predicted;
  std::vector<torch::Tensor> expert_outputs;
  std::vector<torch::Tensor> by_expert;  // [E, N] classes
  metrics::TraceRecorder recorder;
  double loss_sum = 0;
  int64_t wrong = 0;
  for (int64_t begin = 0; begin < set.size(); begin += kEvalBatch) {
    const auto part = set.slice(begin, std::min(begin + kEvalBatch, set.size()));
    nn::RouterContext context;
    context.task_id = part.labels;
    if (options.noise_seed) {
      context.always_noise = true;
      context.generator = tensor::make_generator(
          derive_seed(*options.noise_seed, "test-noise", static_cast<uint64_t>(begin)));
    }
    const auto output = model.forward(data::normalize(part.images, normalization), context);
    loss_sum += model.loss(output, part.labels).item<double>() * static_cast<double>(part.size());
    predicted.push_back(output.log_probs.argmax(1));
    wrong += predicted.back().ne(part.labels).sum().item<int64_t>();
    recorder.add(output.layers);
    for (const auto& layer : output.layers) out.dropped += layer.dropped;
    if (output.expert_log_probs.defined() && !output.layers.empty()) {
      by_expert.push_back(output.expert_log_probs.argmax(2));
    }
    if (options.keep_outputs && output.expert_log_probs.defined()) {
      expert_outputs.push_back(output.expert_log_probs);
    }
  }
  model.train(was_training);
  const auto count = static_cast<double>(std::max<int64_t>(set.size(), 1));
  out.loss = loss_sum / count;
  out.error = static_cast<double>(wrong) / count;
  out.trace.layers = recorder.finish();
  out.trace.labels["label"] = set.labels;
  if (!predicted.empty()) out.trace.labels["predicted"] = torch::cat(predicted);
  if (!by_expert.empty()) {  // a classical mixture: its one layer
    out.trace.labels["selected"] =
        selected_classes(torch::cat(by_expert, 1), out.trace.layers.at(0));
  }
  if (set.clusters.defined()) out.trace.labels["cluster"] = set.clusters;
  if (!expert_outputs.empty()) out.trace.expert_log_probs = torch::cat(expert_outputs, 1);
  return out;
}

Json evaluation_summary(const Evaluation& evaluation, const models::ClassifierImpl& model,
                        int64_t num_classes) {
  Json out = Json::object();
  out["error"] = evaluation.error;
  out["accuracy_percent"] = 100 * (1 - evaluation.error);
  out["loss"] = evaluation.loss;
  if (!evaluation.trace.layers.empty()) out["dropped"] = evaluation.dropped;
  for (const auto& layer : evaluation.trace.layers) {
    out["layers"][layer.name] =
        metrics::specialization_summary(layer, evaluation.trace, num_classes, model.is_hard());
  }
  return out;
}

}  // namespace moekit::classification
