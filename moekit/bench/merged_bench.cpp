#include "moekit/bench/merged_bench.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "moekit/core/random.h"
#include "moekit/nn/merged_linear.h"
#include "moekit/nn/routers/linear_router.h"
#include "moekit/tensor/generator.h"

namespace moekit::bench {
namespace {

constexpr std::int64_t kWarmUp = 2;
constexpr std::int64_t kInputs = 8;  // that take turns, each with gates of its own

/// D -> F -> D.
struct FeedForward {
  nn::MergedLinear up, down;

  torch::Tensor forward(const torch::Tensor& x) { return down(torch::relu(up(x))); }
};

nn::MergedLinear make_layer(const MergedBenchOptions& options, std::int64_t top_k, std::int64_t in,
                            std::int64_t out, const at::Generator& generator) {
  // Weights of one expert carry no gradient to a router; probabilities do, and cost the same.
  nn::MergedLinear layer(
      std::make_shared<nn::LinearRouterImpl>(nn::LinearRouterOptions(in, options.num_experts)
                                                 .top_k(top_k)
                                                 .combine_weights(nn::CombineWeights::kProbs)),
      std::make_shared<nn::LinearExpertsImpl>(
          nn::LinearExpertsOptions(in, out, options.num_experts).bias(false)));
  layer->reset_parameters(generator);
  layer->train(options.pass == Pass::kTrain);
  return layer;
}

MergedBenchRow time_row(const MergedBenchOptions& options, std::int64_t sequences,
                        std::int64_t length, std::int64_t top_k) {
  const bool train = options.pass == Pass::kTrain;
  const auto generator = tensor::make_generator(options.seed);
  FeedForward layer{
      make_layer(options, top_k, options.hidden_size, options.intermediate_size, generator),
      make_layer(options, top_k, options.intermediate_size, options.hidden_size, generator)};
  std::vector<torch::Tensor> inputs;
  for (std::int64_t i = 0; i < kInputs; ++i) {
    inputs.push_back(
        torch::empty({sequences, length, options.hidden_size}).normal_(0, 1, generator));
  }
  const auto run = [&](nn::LinearPath path, std::int64_t turn) {
    for (auto* part : {&layer.up, &layer.down}) (*part)->options.path(path);
    const auto& x = inputs[static_cast<size_t>(turn % kInputs)];
    const torch::AutoGradMode mode(train);
    const auto y = layer.forward(x);
    if (!train) return;
    for (auto* part : {&layer.up, &layer.down}) (*part)->zero_grad();
    y.sum().backward();
  };
  std::vector<double> routed, merged;
  // A turn is one run of each; the first ones are not counted.
  std::int64_t turn = 0;
  time_steps(options.enough, kWarmUp, [&](std::int64_t) {
    for (auto* times : {&routed, &merged}) {
      const auto start = std::chrono::steady_clock::now();
      run(times == &routed ? nn::LinearPath::kRouted : nn::LinearPath::kMerged, turn);
      if (turn >= kWarmUp) times->push_back(seconds_since(start) * 1e3);
    }
    ++turn;
  });
  const nn::LinearWork work{sequences, sequences * length,  options.num_experts,
                            top_k,     options.hidden_size, options.intermediate_size};
  MergedBenchRow row{sequences, length, top_k, static_cast<std::int64_t>(routed.size())};
  row.routed_ms = median(routed);
  row.merged_ms = median(merged);
  row.chosen = nn::choose_path(work, nn::MergedLinearOptions{}.most_merged_bytes());
  return row;
}

}  // namespace

std::vector<MergedBenchRow> run_merged_bench(
    const MergedBenchOptions& options, const std::function<void(const MergedBenchRow&)>& on_row,
    const std::function<bool()>& go_on) {
  check_options(options);
  at::set_num_threads(static_cast<int>(options.threads));
  std::vector<MergedBenchRow> rows;
  for (const auto sequences : options.sequences) {
    for (const auto top_k : options.experts_chosen) {
      for (const auto length : options.lengths) {
        if (!go_on()) return rows;
        rows.push_back(time_row(options, sequences, length, top_k));
        if (on_row) on_row(rows.back());
      }
    }
  }
  return rows;
}

std::vector<Crossover> crossovers(const std::vector<MergedBenchRow>& rows) {
  std::vector<Crossover> found;
  const auto of = [&](const MergedBenchRow& row) -> Crossover& {
    for (auto& crossover : found) {
      if (crossover.sequences == row.sequences && crossover.top_k == row.top_k) return crossover;
    }
    return found.emplace_back(Crossover{row.sequences, row.top_k});
  };
  for (const auto& row : rows) {
    auto& crossover = of(row);
    if (row.ratio() <= 1) crossover.last_slower = std::max(crossover.last_slower, row.length);
  }
  for (const auto& row : rows) {
    auto& crossover = of(row);
    if (row.length <= crossover.last_slower) continue;
    auto& first = crossover.first_faster;
    first = first == 0 ? row.length : std::min(first, row.length);
  }
  return found;
}

Json to_json(const MergedBenchOptions& options, const std::vector<MergedBenchRow>& rows) {
  Json out = {{"num_experts", options.num_experts},
              {"hidden_size", options.hidden_size},
              {"intermediate_size", options.intermediate_size},
              {"threads", options.threads},
              {"pass", enum_name(options.pass)},
              {"seed", options.seed},
              {"rows", Json::array()},
              {"crossovers", Json::array()}};
  for (const auto& row : rows) {
    out["rows"].push_back({{"sequences", row.sequences},
                           {"length", row.length},
                           {"top_k", row.top_k},
                           {"runs", row.runs},
                           {"routed_ms", row.routed_ms},
                           {"merged_ms", row.merged_ms},
                           {"ratio", row.ratio()},
                           {"chosen", enum_name(row.chosen)}});
  }
  for (const auto& crossover : crossovers(rows)) {
    out["crossovers"].push_back({{"sequences", crossover.sequences},
                                 {"top_k", crossover.top_k},
                                 {"last_slower", crossover.last_slower},
                                 {"first_faster", crossover.first_faster}});
  }
  return out;
}

}  // namespace moekit::bench
