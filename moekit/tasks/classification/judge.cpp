#include "moekit/tasks/classification/judge.h"

#include "moekit/tasks/classification/alignments.h"
#include "moekit/tasks/classification/evaluate.h"

namespace moekit::classification {

Json judge(models::ClassifierImpl& model, const RunData& data,
           const std::filesystem::path& folder) {
  Json out = Json::object();
  int64_t parameters = 0;
  for (const auto& parameter : model.parameters()) parameters += parameter.numel();
  out["parameters"] = parameters;
  const auto test = evaluate(model, data.test, data.normalization, {.keep_outputs = true});
  metrics::write_trace(folder / "trace.safetensors", test.trace);
  out["test"] = evaluation_summary(test, model, data.input.num_classes);
  const auto errors = [&](const data::ImageSet& set) -> Json {
    const auto part = evaluate(model, set, data.normalization);
    return {{"error", part.error}, {"loss", part.loss}};
  };
  out["train"] = errors(data.train);
  if (data.validation.size() > 0) out["validation"] = errors(data.validation);
  if (auto aligned = alignments(model, data, test.trace); !aligned.empty()) {
    out["alignment"] = std::move(aligned);
  }
  return out;
}

}  // namespace moekit::classification
