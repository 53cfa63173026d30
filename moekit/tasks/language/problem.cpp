#include "moekit/tasks/language/problem.h"

#include <cmath>
#include <numeric>

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/nn/linear_cross_entropy.h"
#include "moekit/nn/packing.h"
#include "moekit/run/run_folder.h"
#include "moekit/tasks/language/expert_time.h"
#include "moekit/tasks/language/initialize.h"
#include "moekit/tasks/language/judged_batches.h"
#include "moekit/tasks/language/routed_texts.h"
#include "moekit/tasks/language/saturation.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"
#include "moekit/tensor/tensor_json.h"

namespace moekit::language {
namespace {

constexpr int64_t kShownWindows = 4;  // of each domain, on the page
constexpr double kRounding = 1e-3;    // of logits whose sums are taken in another order

uint64_t seed_of(const Config& config, const char* stream, int64_t index = 0) {
  return derive_seed(static_cast<uint64_t>(config.seed), stream, static_cast<uint64_t>(index));
}

/// What routers are told of texts of one domain.
nn::RouterContext context_of(size_t domain, int64_t texts, int64_t length) {
  nn::RouterContext context;
  context.task_id = torch::full({texts, length}, static_cast<int64_t>(domain), torch::kLong);
  return context;
}

/// Which tokens of windows a loss is taken of.
class Taken {
 public:
  /// @param answer [B, T] bool; undefined: all
  explicit Taken(const torch::Tensor& answer) {
    if (answer.defined()) index_ = answer.flatten().nonzero().squeeze(1);
  }
  /// @param hidden [B, T, D] @return [N, D]
  torch::Tensor rows_of(const torch::Tensor& hidden) const {
    const auto rows = hidden.flatten(0, 1);
    return index_.defined() ? rows.index_select(0, index_) : rows;
  }
  /// @param ids [B, T] @return [N]
  torch::Tensor values_of(const torch::Tensor& ids) const {
    const auto all = ids.flatten();
    return index_.defined() ? all.index_select(0, index_) : all;
  }

 private:
  torch::Tensor index_;
};

/// Refuses windows in which no whole question is answered.
void check_answers(const Config& config, const TextData& data) {
  if (!data.answers) return;
  for (size_t d = 0; d < data.domains.size(); ++d) {
    const auto windows =
        data.judged(d, config.data.validation_windows, config.model.context, config.data.documents);
    MOEKIT_CHECK(windows.answer.any().item<bool>(), "data.answers: domain ", data.domains[d].name,
                 " has no answer in its judged texts; model.context = ", config.model.context,
                 " is to hold a whole question and its answer");
  }
}

/// Which experts tokens have together, and where they go from one mixture to the next: counts.
void add_routes(const std::vector<nn::LayerRouting>& layers, Judged& out) {
  const auto add = [](std::vector<torch::Tensor>& sums, size_t at, const torch::Tensor& counts) {
    if (sums.size() <= at) {
      sums.push_back(counts);
    } else {
      sums[at].add_(counts);
    }
  };
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& routing = layers[l].routing;
    const auto active =
        metrics::LayerTrace{layers[l].name, routing.token, routing.expert, routing.probs}
            .active()
            .to(torch::kFloat64);
    add(out.together, l, active.t().matmul(active));
    if (l + 1 == layers.size()) continue;
    const auto& next = layers[l + 1].routing;
    const auto pair = nn::top1_expert(routing) * next.num_experts() + nn::top1_expert(next);
    add(out.flow, l,
        torch::bincount(pair, {}, routing.num_experts() * next.num_experts())
            .view({routing.num_experts(), next.num_experts()})
            .to(torch::kFloat64));
  }
}

/// Rows as shares of their sums, zeros where there is nothing.
Json row_shares(const torch::Tensor& counts) {
  const auto sums = counts.sum(1, true);
  return tensor::to_json_rows(counts / torch::where(sums > 0, sums, torch::ones_like(sums)));
}

/// Refuses a step, or a part of one, whose tokens a router could not deal out.
void check_step_tokens(const Config& config, torch::nn::Module& model) {
  const auto& loop = config.train.loop;
  const int64_t parts = std::min(loop.accumulate, loop.batch_size);
  for (const auto& layer : nn::routed_layers(model)) {
    const int64_t multiple = layer.router ? layer.router->traits().token_multiple : 1;
    for (int64_t p = 0; p < parts; ++p) {
      const int64_t texts = loop.batch_size * (p + 1) / parts - loop.batch_size * p / parts;
      const int64_t tokens = texts * config.model.context * config.model.multi_head.token_heads();
      MOEKIT_CHECK(tokens % multiple == 0, "train.batch_size: a step, or a part of it, has ",
                   tokens, " tokens in ", texts, " texts of model.context = ", config.model.context,
                   "; the router of ", layer.name,
                   " takes multiples of model.num_experts = ", multiple, " alone");
    }
  }
}

}  // namespace

double Judged::mean_loss() const {
  double sum = 0;
  for (size_t d = 0; d < loss.size(); ++d) sum += loss[d] * static_cast<double>(tokens[d]);
  return sum / static_cast<double>(std::accumulate(tokens.begin(), tokens.end(), int64_t{0}));
}

LanguageProblem::LanguageProblem(Config config, TextData data)
    : config_(std::move(config)),
      data_(std::move(data)),
      model_(config_.model, data_.vocabulary_size()) {
  validate(config_);
  check_step_tokens(config_, *model_);
  check_answers(config_, data_);
  // Now, and not after hours of training.
  for (const auto& format : config_.packed) {
    about(concat("packed = \"", format, "\""), [&] {
      nn::pack_networks(*model_, kernels::parse_weight_format(format));
      nn::unpack_networks(*model_);
    });
  }
  if (config_.expert_time > 0) check_expert_time(*model_);
  initialize(*model_, config_, data_.tokenizer);
}

int64_t LanguageProblem::total_steps() const {
  return config_.train.loop.epochs * config_.train.epoch_steps;
}

train::StepResult LanguageProblem::forward(const train::StepKey& key) {
  const int64_t all = config_.train.loop.batch_size;
  const int64_t begin = all * key.part / key.parts;
  const int64_t end = all * (key.part + 1) / key.parts;
  auto windows = data_.draw(all, config_.model.context, seed_of(config_, "batch", key.step),
                            config_.data.documents);
  const auto part = [&](const torch::Tensor& of) { return of.narrow(0, begin, end - begin); };
  const auto ids = part(windows.ids);
  const int64_t length = config_.model.context;
  nn::RouterContext context;
  context.generator = key.generator;
  context.task_id = part(windows.domain).unsqueeze(1).expand({end - begin, length}).contiguous();
  auto output =
      model_->forward_hidden(ids.narrow(1, 0, length).contiguous(), context,
                             windows.first.defined() ? part(windows.first) : windows.first);
  train::StepResult result;
  result.loss = tensor::counted("head", [&] {
    const auto taken = Taken(windows.answer.defined() ? part(windows.answer) : windows.answer);
    const auto next = taken.values_of(ids.narrow(1, 1, length));
    MOEKIT_CHECK(next.numel() > 0, "data.answers: no answer is in the texts of step ", key.step,
                 "; wants more of them (train.batch_size = ", all,
                 ") or longer ones (model.context = ", length, ")");
    return nn::linear_cross_entropy(taken.rows_of(output.hidden), model_->head_weight(), next);
  });
  result.samples = end - begin;
  double dropped = 0;
  for (const auto& layer : output.layers) dropped += static_cast<double>(layer.dropped);
  result.sums = {{"dropped", dropped}};
  result.layers = std::move(output.layers);
  return result;
}

Judged LanguageProblem::judge(bool with_routes) {
  const int64_t length = config_.model.context;
  const auto domains = static_cast<int64_t>(data_.domains.size());
  Judged out;
  out.loss.assign(data_.domains.size(), 0);
  out.tokens.assign(data_.domains.size(), 0);
  std::vector<double> bytes(data_.domains.size(), 0);
  std::vector<int64_t> right(data_.domains.size(), 0);
  int64_t seen = 0;  // by routers: also tokens that foretell no answer
  const auto add = [&](const JudgedBatch& batch) {
    const auto& [d, windows, output] = batch;
    seen += windows.ids.size(0) * length;
    const Taken taken(windows.answer);
    const auto rows = taken.rows_of(output.hidden);
    const auto next = taken.values_of(windows.ids.narrow(1, 1, length)).contiguous();
    out.loss[d] += nn::linear_token_losses(rows, model_->head_weight(), next)
                       .sum(torch::kFloat64)
                       .item<double>();
    out.tokens[d] += next.numel();
    if (data_.answers) {
      right[d] += rows.matmul(model_->head_weight().t()).argmax(1).eq(next).sum().item<int64_t>();
    }
    const auto* id = next.data_ptr<int64_t>();
    for (int64_t i = 0; i < next.numel(); ++i) {
      bytes[d] += data_.token_bytes[static_cast<size_t>(id[i])];
    }
    for (size_t l = 0; l < output.layers.size(); ++l) {
      const auto& layer = output.layers[l];
      if (out.layers.size() <= l) {
        out.layers.push_back(layer.name);
        out.load.push_back(torch::zeros({domains, layer.routing.num_experts()}, torch::kFloat64));
      }
      out.load[l][static_cast<int64_t>(d)].add_(
          metrics::expert_load(layer.routing.expert, layer.routing.num_experts()));
    }
    if (with_routes) add_routes(output.layers, out);
  };
  for_judged(*model_, data_, config_, config_.data.validation_windows,
             config_.train.loop.batch_size, add);
  for (size_t d = 0; d < data_.domains.size(); ++d) {
    const auto tokens = static_cast<double>(out.tokens[d]);
    if (data_.answers) out.accuracy.push_back(static_cast<double>(right[d]) / tokens);
    out.bits_per_byte.push_back(out.loss[d] / M_LN2 / std::max(bytes[d], 1.0));
    out.loss[d] /= tokens;
  }
  double assignments = 0;
  for (const auto& load : out.load) assignments += load.sum().item<double>();
  if (!out.load.empty()) {
    out.experts_per_token =
        assignments / static_cast<double>(seen * static_cast<int64_t>(out.load.size()));
  }
  return out;
}

Json LanguageProblem::operations() {
  const torch::NoGradGuard no_grad;
  model_->eval();
  const int64_t length = config_.model.context;
  const auto ids = data_.judged(0, 1, length, false).ids.narrow(1, 0, length).contiguous();
  const tensor::OperationCounter counter;
  model_->forward(ids, context_of(0, 1, length));
  double experts = 0;
  double routers = 0;
  for (const auto& [name, count] : counter.parts()) {
    const auto in_mixture = name.find(".mixture");
    if (in_mixture == std::string::npos) continue;
    (name.find(".router", in_mixture) == std::string::npos ? experts : routers) += count;
  }
  const auto tokens = static_cast<double>(length);
  return {{"all", counter.total() / tokens},
          {"experts", experts / tokens},
          {"routers", routers / tokens}};
}

double LanguageProblem::leak() {
  const torch::NoGradGuard no_grad;
  model_->eval();
  const int64_t length = config_.model.context;
  const int64_t known = length / 2;
  if (known == 0) return 0;
  const auto logits = [&](const torch::Tensor& ids) {
    return model_->forward(ids, context_of(0, 1, length)).logits.narrow(1, 0, known);
  };
  auto ids = data_.judged(0, 1, length, false).ids.narrow(1, 0, length).contiguous();
  const auto before = logits(ids);
  auto later = ids.narrow(1, known, length - known);
  later.copy_((later + 1) % data_.vocabulary_size());
  return (logits(ids) - before).abs().max().item<double>();
}

Json LanguageProblem::adapter_cosines() {
  const auto modules = model_->named_modules();
  double before = 0;
  double after = 0;
  int64_t count = 0;
  for_judged(*model_, data_, config_, 1, 1, [&](const JudgedBatch& batch) {
    for (const auto& layer : batch.output.layers) {
      auto* adapter =
          dynamic_cast<nn::LowRankMixtureImpl*>(modules[layer.name + models::kAdapterSuffix].get());
      const auto& routing = layer.routing;
      const auto index =
          routing.takes_all ? torch::Tensor() : std::get<0>(routing.expert_index.sort(1));
      const auto outputs = adapter->expert_outputs(layer.samples, index);
      before += nn::mean_cosine(outputs.before);
      after += nn::mean_cosine(outputs.after);
      ++count;
    }
  });
  if (count == 0) return Json::object();
  return {{"before", before / static_cast<double>(count)},
          {"after", after / static_cast<double>(count)}};
}

Json LanguageProblem::packed_figures(const std::string& format) {
  const torch::NoGradGuard no_grad;
  model_->eval();
  const int64_t length = config_.model.context;
  const auto ids = data_.judged(0, 1, length, false).ids.narrow(1, 0, length).contiguous();
  const auto logits = [&] { return model_->forward(ids, context_of(0, 1, length)).logits; };
  const auto before = logits();
  const auto size = nn::pack_networks(*model_, kernels::parse_weight_format(format));
  const auto after = logits();
  const double loss = judge().mean_loss();
  nn::unpack_networks(*model_);
  const auto same = before.argmax(-1).eq(after.argmax(-1)).to(torch::kFloat64);
  return {{"loss", loss},
          {"perplexity", std::exp(loss)},
          {"bytes", size.bytes},
          {"float_bytes", size.float_bytes},
          {"logit_difference", (after - before).abs().max().item<double>()},
          {"same_choice", same.mean().item<double>()}};
}

Json LanguageProblem::routes_of(const Judged& judged) {
  Json out = Json::object();
  for (size_t l = 0; l < judged.flow.size(); ++l) {
    out["flow"].push_back({{"from", judged.layers[l]},
                           {"to", judged.layers[l + 1]},
                           {"shares", row_shares(judged.flow[l])}});
  }
  for (size_t l = 0; l < judged.together.size(); ++l) {
    const auto& counts = judged.together[l];
    if (counts.sum().item<double>() == counts.diagonal().sum().item<double>()) continue;
    // N_ij / N_j, as metrics::coactivation(): its column is our row.
    const auto own = counts.diagonal().unsqueeze(1);
    out["coactivation"].push_back(
        {{"layer", judged.layers[l]},
         {"shares",
          tensor::to_json_rows(counts / torch::where(own > 0, own, torch::ones_like(own)))}});
  }
  return out;
}

Json LanguageProblem::figures_of(const Judged& judged) {
  Json out = {{"loss", judged.mean_loss()}, {"perplexity", std::exp(judged.mean_loss())}};
  Json domains = Json::object();
  for (size_t d = 0; d < judged.loss.size(); ++d) {
    domains[data_.domains[d].name] = {{"loss", judged.loss[d]},
                                      {"bits_per_byte", judged.bits_per_byte[d]},
                                      {"tokens", judged.tokens[d]}};
  }
  if (!judged.accuracy.empty()) {
    double sum = 0;
    for (size_t d = 0; d < judged.accuracy.size(); ++d) {
      domains[data_.domains[d].name]["accuracy"] = judged.accuracy[d];
      sum += judged.accuracy[d];
    }
    out["accuracy"] = sum / static_cast<double>(judged.accuracy.size());
  }
  out["domains"] = std::move(domains);
  Json layers = Json::object();
  double worst = 0;
  double active = 0;
  double all = 0;
  double computed = 0;
  const auto routed = nn::routed_layers(*model_);
  for (size_t l = 0; l < judged.layers.size(); ++l) {
    const auto load = judged.load[l].sum(0);
    const auto stats = metrics::load_stats(load);
    const double violation = metrics::max_violation(load);
    worst = std::max(worst, violation);
    all += load.sum().item<double>();
    computed += load.narrow(0, 0, routed[l].experts->num_computing()).sum().item<double>();
    active += metrics::activation_share(load) / static_cast<double>(judged.layers.size());
    Json by_domain = Json::object();
    for (size_t d = 0; d < data_.domains.size(); ++d) {
      by_domain[data_.domains[d].name] =
          metrics::load_stats(judged.load[l][static_cast<int64_t>(d)]).fraction;
    }
    layers[judged.layers[l]] = {{"usage", stats.fraction},
                                {"usage_entropy", stats.entropy_bits},
                                {"experts_used", stats.experts_used},
                                {"max_violation", violation},
                                {"by_domain", std::move(by_domain)}};
  }
  out["max_violation"] = worst;
  out["experts_per_token"] = judged.experts_per_token;
  out["activation_share"] = active;
  // Of the tokens' choices, those that an expert computes something for.
  out["computing_share"] = all > 0 ? computed / all : 0;
  out["layers"] = std::move(layers);
  return out;
}

Json LanguageProblem::evaluate(const train::LoopState& state) {
  Json line = {{"epoch", state.epoch}, {"step", state.step}};
  if (state.step > 0) {
    const auto seen = static_cast<double>(std::max<int64_t>(state.seen, 1));
    line["train_loss"] = state.mean_loss();
    line["aux_loss"] = state.aux_sum / seen;
    line["dropped"] = state.mean_of("dropped");
  }
  line["test"] = figures_of(judge());
  return line;
}

Json LanguageProblem::finish(const train::LoopState& state, const std::filesystem::path& folder) {
  data_.tokenizer.save(folder / "tokenizer.json");
  if (config_.model.routed_every > 0) {
    const auto texts = route_texts(*model_, data_, config_,
                                   std::min(kShownWindows, config_.data.validation_windows));
    write_json(folder / "texts.json", report::to_json(texts));
  }
  int64_t parameters = 0;
  int64_t trained = 0;
  for (const auto& parameter : model_->parameters()) {
    parameters += parameter.numel();
    if (parameter.requires_grad()) trained += parameter.numel();
  }
  int64_t of_experts = 0;
  for (const auto& layer : nn::routed_layers(*model_)) {
    for (const auto& parameter : layer.experts->parameters()) of_experts += parameter.numel();
  }
  Json summary = {{"seed", config_.seed},
                  {"parameters", parameters},
                  {"expert_parameters", of_experts},
                  {"trained_parameters", trained},
                  {"steps", state.step},
                  {"vocabulary", data_.vocabulary_size()}};
  // With a router that tells tokens of those behind them, losses foretell nothing.
  bool causal = true;
  for (const auto& layer : nn::routed_layers(*model_)) {
    causal = causal && (!layer.router || layer.router->traits().causal);
  }
  // A capacity can make one that does not: a later token's first choice may take the place of an
  // earlier one's second.
  const double leaked = leak();
  summary["causal"] = causal && leaked < kRounding;
  summary["leak"] = leaked;
  summary["operations_per_token"] = operations();
  const bool has_mixtures = config_.model.routed_every > 0;
  const auto judged = judge(has_mixtures);
  summary["test"] = figures_of(judged);
  if (has_mixtures) {
    Json routes = routes_of(judged);
    const Json saturation = saturation_over_time(folder, *model_, data_, config_);
    if (!saturation.empty()) routes["saturation"] = saturation;
    write_json(folder / "routes.json", routes);
  }
  if (config_.model.adapters.num_experts() > 0) summary["expert_cosine"] = adapter_cosines();
  for (const auto& format : config_.packed) summary["packed"][format] = packed_figures(format);
  if (config_.expert_time > 0) {
    summary["expert_time"] = expert_time(*model_, data_, config_, config_.expert_time);
  }
  const auto lines = run::read_metrics(folder);
  if (!lines.empty()) summary["first"] = {{"loss", lines.front()["test"]["loss"]}};
  return summary;
}

Json LanguageProblem::describe() {
  return {{"task", config_.task},
          {"model", to_json(config_.model)},
          {"vocabulary", data_.vocabulary_size()}};
}

void LanguageProblem::restore(const Json& description, const std::string& where) {
  const Json own = describe();
  MOEKIT_CHECK_FORMAT(description == own, where, ": must be ", own.dump(), "; got ",
                      description.dump());
}

}  // namespace moekit::language
