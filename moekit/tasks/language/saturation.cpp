#include "moekit/tasks/language/saturation.h"

#include <torch/torch.h>

#include "moekit/metrics/routing_metrics.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/models/decoder_io.h"
#include "moekit/run/run_folder.h"

namespace moekit::language {
namespace {

/// Which experts each mixture chooses for the judged texts of all domains.
std::vector<metrics::LayerTrace> choices_of(models::DecoderImpl& model, const TextData& data,
                                            const Config& config) {
  const torch::NoGradGuard no_grad;
  model.eval();
  const int64_t length = config.model.context;
  metrics::TraceRecorder recorder;
  for (size_t d = 0; d < data.domains.size(); ++d) {
    const auto windows =
        data.judged(d, config.data.validation_windows, length, config.data.documents);
    // In batches of those of training: attention's and experts' memory grows with them.
    for (const auto& rows :
         torch::arange(windows.ids.size(0)).split(config.train.loop.batch_size)) {
      const auto ids = windows.ids.index_select(0, rows).narrow(1, 0, length).contiguous();
      nn::RouterContext context;
      context.task_id = torch::full_like(ids, static_cast<int64_t>(d));
      recorder.add(model
                       .forward_hidden(ids, context,
                                       windows.first.defined() ? windows.first.index_select(0, rows)
                                                               : windows.first)
                       .layers);
    }
  }
  return recorder.finish();
}

}  // namespace

Json saturation_over_time(const std::filesystem::path& run, models::DecoderImpl& model,
                          const TextData& data, const Config& config) {
  Json out = Json::array();
  if (config.train.loop.keep_every == 0) return out;  // there may be one to go on from
  const auto checkpoints = run::whole_checkpoints(run);
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
