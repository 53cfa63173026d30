#include "moekit/tasks/merged_linear/equality.h"

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/nn/merged_linear.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::merged_linear {
namespace {

constexpr int64_t kTasks = 4;  // that a batch is drawn from, with unit "task"

at::Generator generator_of(const Config& config, const char* what) {
  return tensor::make_generator(derive_seed(static_cast<uint64_t>(config.seed), what));
}

nn::MergedLinear make_layer(const Config& config) {
  const auto& c = config.layer;
  nn::MergedLinearOptions options;
  options.unit(c.unit).token_reduction(c.token_reduction);
  if (c.unit == nn::GateUnit::kTask) options.num_tasks(kTasks).task_size(c.hidden_size);
  // One expert's renormalised weight is 1 and would leave the router without a gradient to compare.
  const auto weights =
      c.top_k == 1 ? nn::CombineWeights::kProbs : nn::CombineWeights::kRenormalized;
  nn::MergedLinear layer(
      std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(c.hidden_size, c.num_experts)
                                                 .top_k(c.top_k)
                                                 .combine_weights(weights)
                                                 .aux_only(c.num_experts == 1)),
      std::make_shared<nn::LinearExpertsImpl>(
          nn::LinearExpertsOptions(c.hidden_size, c.intermediate_size, c.num_experts).bias(c.bias)),
      options);
  auto generator = generator_of(config, "weights");
  layer->reset_parameters(generator);
  if (layer->token_block) {  // zero at first: it would do nothing
    const torch::NoGradGuard no_grad;
    nn::init_uniform_fan_in(layer->token_block->up, layer->token_block->up.size(1), generator);
  }
  return layer;
}

nn::RouterContext make_context(const Config& config) {
  const auto& c = config.layer;
  nn::RouterContext context;
  if (c.masked > 0) {
    context.mask = torch::empty({c.sequences, c.length})
                       .uniform_(0, 1, generator_of(config, "mask"))
                       .ge(c.masked);
  }
  if (c.unit == nn::GateUnit::kTask) {
    context.task_id =
        torch::randint(kTasks, {c.sequences, 1}, generator_of(config, "tasks"), torch::kLong)
            .expand({c.sequences, c.length});
  }
  return context;
}

/// What a path gives.
struct Found {
  torch::Tensor values, tokens;
  std::vector<torch::Tensor> experts, router;  ///< gradients
  double operations = 0;                       ///< of the forward pass
};

Found run_path(nn::MergedLinear& layer, nn::LinearPath path, const torch::Tensor& tokens,
               const nn::RouterContext& context) {
  layer->options.path(path);
  layer->zero_grad();
  const auto x = tokens.detach().clone().requires_grad_();
  Found found;
  {
    const tensor::OperationCounter counter;
    found.values = layer->forward_with_routing(x, context).values;
    found.operations = counter.total();
  }
  const auto weight = torch::linspace(-1, 1, found.values.numel(), found.values.options())
                          .view(found.values.sizes());
  (found.values * weight).sum().backward();
  found.values = found.values.detach();
  found.tokens = x.grad();
  const auto add = [](std::vector<torch::Tensor>& to, const torch::Tensor& parameter) {
    if (!parameter.defined() || !parameter.grad().defined()) return;
    MOEKIT_CHECK(parameter.grad().scalar_type() == parameter.scalar_type(),
                 "merged_linear: a gradient is ", parameter.grad().dtype(),
                 " of a parameter that is ", parameter.dtype());
    to.push_back(parameter.grad().clone());
  };
  for (const auto& parameter : layer->experts->parameters()) add(found.experts, parameter);
  for (const auto& parameter : layer->router->parameters()) add(found.router, parameter);
  add(found.router, layer->task_vectors);
  return found;
}

/// Largest difference over the largest number.
double distance(const torch::Tensor& a, const torch::Tensor& b) {
  const double scale = b.abs().max().item<double>();
  const double apart = (a - b).abs().max().item<double>();
  return scale > 0 ? apart / scale : apart;
}

double distance(const std::vector<torch::Tensor>& a, const std::vector<torch::Tensor>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, distance(a[i], b[i]));
  return largest;
}

}  // namespace

Json compare_paths(const Config& config) {
  const torch::AutoGradMode with_graph(true);
  const auto tokens =
      torch::empty({config.layer.sequences, config.layer.length, config.layer.hidden_size})
          .normal_(0, 1, generator_of(config, "tokens"));
  const auto context = make_context(config);
  Json out = Json::object();
  for (const auto& [name, type] :
       {std::pair{"float32", torch::kFloat32}, std::pair{"float64", torch::kFloat64}}) {
    // A layer of its own: one that changes its type keeps its gradients' old one, and what is added
    // to them is rounded to that.
    auto layer = make_layer(config);
    layer->to(type);
    const auto routed = run_path(layer, nn::LinearPath::kRouted, tokens.to(type), context);
    const auto merged = run_path(layer, nn::LinearPath::kMerged, tokens.to(type), context);
    out[name] = {{"values", distance(merged.values, routed.values)},
                 {"experts", distance(merged.experts, routed.experts)},
                 {"router", distance(merged.router, routed.router)},
                 {"tokens", distance(merged.tokens, routed.tokens)}};
    out["operations"] = {{"routed", routed.operations},
                         {"merged", merged.operations},
                         {"saving", routed.operations / merged.operations}};
  }
  return out;
}

}  // namespace moekit::merged_linear
