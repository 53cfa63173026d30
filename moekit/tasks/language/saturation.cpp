#include "moekit/tasks/language/saturation.h"

#include <torch/torch.h>

#include "moekit/metrics/routing_metrics.h"
#include "moekit/models/decoder_io.h"
#include "moekit/run/run_folder.h"

namespace moekit::language {
namespace {

/// Which experts each mixture chooses.
struct Choices {
  std::string layer;
  torch::Tensor active;  ///< [N, E] bool, over the judged texts of all domains
};

std::vector<Choices> choices_of(models::DecoderImpl& model, const TextData& data,
                                const Config& config) {
  const torch::NoGradGuard no_grad;
  model.eval();
  const int64_t length = config.model.context;
  std::vector<std::string> names;
  std::vector<std::vector<torch::Tensor>> parts;
  for (size_t d = 0; d < data.domains.size(); ++d) {
    const auto windows =
        data.judged(d, config.data.validation_windows, length, config.data.documents);
    // In batches of those of training: attention's and experts' memory grows with them.
    for (const auto& rows :
         torch::arange(windows.ids.size(0)).split(config.train.loop.batch_size)) {
      const auto ids = windows.ids.index_select(0, rows).narrow(1, 0, length).contiguous();
      nn::RouterContext context;
      context.task_id = torch::full_like(ids, static_cast<int64_t>(d));
      const auto output = model.forward_hidden(
          ids, context,
          windows.first.defined() ? windows.first.index_select(0, rows) : windows.first);
      parts.resize(output.layers.size());
      names.resize(output.layers.size());
      for (size_t l = 0; l < output.layers.size(); ++l) {
        const auto& routing = output.layers[l].routing;
        auto active = torch::zeros({routing.num_tokens(), routing.num_experts()}, torch::kBool);
        active.index_put_({routing.token, routing.expert},
                          torch::ones({routing.expert.size(0)}, torch::kBool));
        names[l] = output.layers[l].name;
        parts[l].push_back(active);
      }
    }
  }
  std::vector<Choices> out;
  for (size_t l = 0; l < parts.size(); ++l) out.push_back({names[l], torch::cat(parts[l])});
  return out;
}

}  // namespace

Json saturation_over_time(const std::filesystem::path& run, models::DecoderImpl& model,
                          const TextData& data, const Config& config) {
  Json out = Json::array();
  if (config.train.loop.keep_every == 0) return out;  // there may be one to go on from
  auto checkpoints = run::list_checkpoints(run);
  // What a process that died while it deleted a checkpoint has left is none.
  std::erase_if(checkpoints, [](const auto& item) { return !run::has_all_files(item.second); });
  if (checkpoints.size() < 2) return out;
  const auto last = choices_of(model, data, config);
  for (const auto& layer : last) {
    const auto experts = layer.active.size(1);
    const auto chosen =
        layer.active.sum().item<double>() / static_cast<double>(layer.active.size(0));
    out.push_back({{"layer", layer.layer},
                   {"random", metrics::router_saturation_baseline(chosen, experts)},
                   {"points", Json::array()}});
  }
  for (const auto& [step, path] : checkpoints) {
    const auto earlier = choices_of(*models::load_decoder(path), data, config);
    for (size_t l = 0; l < last.size(); ++l) {
      out[l]["points"].push_back(
          {{"step", step},
           {"value", metrics::router_saturation(earlier.at(l).active, last[l].active)}});
    }
  }
  return out;
}

}  // namespace moekit::language
