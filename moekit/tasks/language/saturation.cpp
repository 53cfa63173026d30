#include "moekit/tasks/language/saturation.h"

#include <torch/torch.h>

#include "moekit/metrics/routing_metrics.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/models/decoder_io.h"
#include "moekit/run/run_folder.h"
#include "moekit/tasks/language/judged_batches.h"

namespace moekit::language {
namespace {

/// Which experts each mixture chooses for the judged texts of all domains.
std::vector<metrics::LayerTrace> choices_of(models::DecoderImpl& model, const TextData& data,
                                            const Config& config) {
  metrics::TraceRecorder recorder;
  for_judged(model, data, config, config.data.validation_windows, config.train.loop.batch_size,
             [&](const JudgedBatch& batch) { recorder.add(batch.output.layers); });
  return recorder.finish();
}

}  // namespace

Json saturation_over_time(const std::filesystem::path& run, models::DecoderImpl& model,
                          const TextData& data, const Config& config) {
  Json out = Json::array();
  if (config.train.loop.keep_every == 0) return out;  // there may be one to go on from
  auto checkpoints = run::whole_checkpoints(run);
  // Those that were to be kept: one of a step in between, to go on from, is gone some day.
  const int64_t between = config.train.loop.keep_every * config.train.epoch_steps;
  const int64_t over = config.train.loop.epochs * config.train.epoch_steps;
  std::erase_if(checkpoints, [&](const auto& checkpoint) {
    return checkpoint.first % between != 0 && checkpoint.first != over;
  });
  if (checkpoints.size() < 2) return out;
  const auto last = choices_of(model, data, config);
  for (const auto& layer : last) {
    out.push_back(
        {{"layer", layer.name},
         {"random", metrics::router_saturation_baseline(layer.mean_top_k(), layer.num_experts())},
         {"points", Json::array()}});
  }
  for (const auto& [step, path] : checkpoints) {
    const auto earlier = choices_of(*models::load_decoder(path), data, config);
    for (size_t l = 0; l < last.size(); ++l) {
      out[l]["points"].push_back(
          {{"step", step},
           {"value", metrics::router_saturation(earlier.at(l).active(), last[l].active())}});
    }
  }
  return out;
}

}  // namespace moekit::language
