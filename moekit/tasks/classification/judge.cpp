#include "moekit/tasks/classification/judge.h"

#include "moekit/tasks/classification/alignments.h"
#include "moekit/tasks/classification/evaluate.h"

namespace moekit::classification {

Judged judge(models::ClassifierImpl& model, const RunData& data) {
  Json out = Json::object();
  int64_t parameters = 0;
  for (const auto& parameter : model.parameters()) parameters += parameter.numel();
  out["parameters"] = parameters;
  auto test = evaluate(model, data.test, data.normalization, {.keep_outputs = true});
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
  return {std::move(out), std::move(test.trace)};
}

}  // namespace moekit::classification
