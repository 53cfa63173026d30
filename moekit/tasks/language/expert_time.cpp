#include "moekit/tasks/language/expert_time.h"

#include <limits>

#include "moekit/bench/timing.h"
#include "moekit/core/error.h"

namespace moekit::language {
namespace {

/// The routing of tokens that may choose the first experts alone, as many each.
nn::Routing among_first(const nn::Routing& routing, int64_t experts) {
  auto logits = routing.logits.clone();
  logits.narrow(1, experts, logits.size(1) - experts)
      .fill_(-std::numeric_limits<double>::infinity());
  return nn::route(logits, routing.top_k());
}

}  // namespace

void check_expert_time(models::DecoderImpl& model) {
  bool any = false;
  for (const auto& layer : nn::routed_layers(model)) {
    const int64_t computing = layer.experts->num_computing();
    MOEKIT_CHECK(computing < layer.experts->num_experts(),
                 "expert_time: all experts of this model compute; wanted 0, or model.expert.kind = "
                 "\"zero_computation\"");
    const int64_t top_k = layer.router ? layer.router->traits().top_k : 0;
    MOEKIT_CHECK(top_k >= 1 && top_k <= computing,
                 "expert_time: wants a router with a top_k of 1..", computing,
                 ", the experts that compute; got ", top_k);
    any = true;
  }
  MOEKIT_CHECK(any, "expert_time: has no effect without mixtures");
}

Json expert_time(models::DecoderImpl& model, const TextData& data, const Config& config,
                 int64_t runs) {
  const torch::NoGradGuard no_grad;
  model.eval();
  const int64_t length = config.model.context;
  const auto windows = data.judged(0, config.train.loop.batch_size, length, config.data.documents);
  const auto ids = windows.ids.narrow(1, 0, length).contiguous();
  nn::RouterContext context;
  context.task_id = torch::zeros_like(ids);
  const auto output = model.forward_hidden(ids, context, windows.first);
  const auto routed = nn::routed_layers(model);
  double own = 0;
  double computing = 0;
  for (size_t l = 0; l < output.layers.size(); ++l) {
    const auto& layer = output.layers[l];
    auto& experts = *routed.at(l).experts;
    const bool fused = experts.why_not_fused(layer.samples).empty();
    const auto seconds = [&](const nn::Routing& routing) {
      const auto start = std::chrono::steady_clock::now();
      const auto plan = nn::make_plan(routing);
      fused ? experts.forward_fused(layer.samples, plan, routing.weight, nn::Runtime::standard())
            : nn::combine(experts.forward_dispatched(layer.samples, plan), plan, routing.weight);
      return bench::seconds_since(start);
    };
    const auto others = among_first(layer.routing, experts.num_computing());
    std::vector<double> with;
    std::vector<double> without;
    seconds(layer.routing);  // memory is taken then
    for (int64_t run = 0; run < runs; ++run) {
      with.push_back(seconds(layer.routing));
      without.push_back(seconds(others));
    }
    own += 1e3 * bench::median(with);
    computing += 1e3 * bench::median(without);
  }
  return {{"tokens", ids.numel()},
          {"milliseconds", own},
          {"computing_milliseconds", computing},
          {"gain", computing / own - 1}};
}

}  // namespace moekit::language
