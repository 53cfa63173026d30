#include "moekit/bench/moe_bench.h"

#include <ATen/Parallel.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>

#include "moekit/bench/baselines.h"
#include "moekit/core/error.h"
#include "moekit/kernels/ffn/expert_ffn.h"
#include "moekit/metrics/routing_trace.h"

namespace moekit::bench {
namespace {

using kernels::WeightFormat;

constexpr std::int64_t kPlans = 16;  // different routings that the runs take in turn
constexpr double kMostBytes = 5e9;   // of weights

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double cache_bytes() {
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<double>(bytes) : 32e6;
}

/// Expert indices [N, K] and weights for one step.
struct Routed {
  torch::Tensor index;
  torch::Tensor weight;
  kernels::RoutingPlan plan;
  kernels::RoutingPlan shared;
};

/// K different experts with odds `odds`, by the largest of log(odds) + Gumbel noise.
void draw_experts(const std::vector<double>& odds, std::int64_t top_k, std::mt19937_64& generator,
                  std::int64_t* to) {
  std::vector<std::pair<double, std::int64_t>> keys;
  std::uniform_real_distribution<double> uniform(1e-12, 1);
  for (size_t e = 0; e < odds.size(); ++e) {
    const double gumbel = -std::log(-std::log(uniform(generator)));
    keys.emplace_back(std::log(odds[e]) + gumbel, static_cast<std::int64_t>(e));
  }
  std::partial_sort(keys.begin(), keys.begin() + top_k, keys.end(), std::greater<>());
  for (std::int64_t k = 0; k < top_k; ++k) to[k] = keys[static_cast<size_t>(k)].second;
}

Routed make_routing(const MoeBenchOptions& options, const LayerShape& shape, std::int64_t tokens,
                    const torch::Tensor& trace, std::int64_t turn, std::mt19937_64& generator) {
  Routed routed;
  routed.index = torch::empty({tokens, shape.top_k}, torch::kLong);
  auto* index = routed.index.data_ptr<std::int64_t>();
  std::vector<double> odds(static_cast<size_t>(shape.num_experts), 1.0);
  if (options.routing == RoutingKind::kZipf) {
    for (size_t e = 0; e < odds.size(); ++e) odds[e] = 1.0 / static_cast<double>(e + 1);
  }
  for (std::int64_t n = 0; n < tokens; ++n) {
    std::int64_t* row = index + n * shape.top_k;
    if (options.routing == RoutingKind::kOne) {
      std::iota(row, row + shape.top_k, std::int64_t{0});
    } else if (options.routing == RoutingKind::kTrace) {
      const std::int64_t from = (turn * tokens + n) % trace.size(0);
      std::memcpy(row, trace[from].data_ptr<std::int64_t>(),
                  static_cast<size_t>(shape.top_k) * sizeof(std::int64_t));
    } else {
      draw_experts(odds, shape.top_k, generator, row);
    }
  }
  routed.weight = torch::full({tokens, shape.top_k}, 1.0 / static_cast<double>(shape.top_k));
  routed.plan.build(tokens, shape.num_experts, shape.top_k, index, routed.weight.data_ptr<float>());
  if (shape.shared_size > 0) routed.shared.build_shared(tokens, 1);
  return routed;
}

/// Runs step(0), step(1), ... until there are enough; milliseconds of each, sorted. A first round
/// over all layers is not counted: memory is taken then.
template <typename Step>
std::vector<double> time_steps(const MoeBenchOptions& options, std::int64_t layers,
                               const Step& step) {
  const std::int64_t warm_up = std::max<std::int64_t>(2, layers);
  for (std::int64_t turn = 0; turn < warm_up; ++turn) step(turn);
  std::vector<double> times;
  const auto begin = std::chrono::steady_clock::now();
  while (static_cast<int>(times.size()) < options.min_runs ||
         seconds_since(begin) < options.min_seconds) {
    const auto start = std::chrono::steady_clock::now();
    step(static_cast<std::int64_t>(times.size()) + warm_up);
    times.push_back(seconds_since(start) * 1e3);
  }
  std::sort(times.begin(), times.end());
  return times;
}

std::vector<float> normal_values(std::int64_t count, float scale, std::mt19937_64& generator) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (auto& v : values) v = normal(generator);
  return values;
}

kernels::FfnShape ffn_shape(std::int64_t experts, std::int64_t d, std::int64_t f) {
  return {experts, d, f, d, Activation::kSwiglu, false};
}

/// A layer packed for the forward pass. All experts are copies of one: only time is of interest.
struct PackedLayer {
  PackedLayer(const LayerShape& shape, WeightFormat format, const std::vector<float>& values)
      : routed(ffn_shape(shape.num_experts, shape.hidden_size, shape.intermediate_size), format),
        shared(ffn_shape(1, shape.hidden_size, std::max<std::int64_t>(1, shape.shared_size)),
               format) {
    fill(routed, values);
    if (shape.shared_size > 0) fill(shared, values);
  }
  PackedLayer(const PackedLayer& other)
      : routed(other.routed.shape(), other.routed.format()),
        shared(other.shared.shape(), other.shared.format()) {
    for (std::int64_t e = 0; e < routed.shape().num_experts; ++e) routed.copy(e, other.routed, e);
    shared.copy(0, other.shared, 0);
  }
  PackedLayer(PackedLayer&&) = default;
  static void fill(kernels::PackedExperts& bank, const std::vector<float>& values) {
    const float* v = values.data();
    bank.pack(0, {v, v, v});
    for (std::int64_t e = 1; e < bank.shape().num_experts; ++e) bank.copy(e, bank, 0);
  }
  kernels::PackedExperts routed;
  kernels::PackedExperts shared;
};

/// A layer's parameters and their gradients, for the training step.
struct TrainLayer {
  TrainLayer(const LayerShape& shape, const std::vector<float>& values) {
    matrix = shape.num_experts * shape.intermediate_size * shape.hidden_size;
    const auto bytes = static_cast<size_t>(3 * matrix) * sizeof(float);
    weights = kernels::Slab(bytes);
    gradients = kernels::Slab(bytes);
    const std::int64_t one = shape.intermediate_size * shape.hidden_size;
    for (std::int64_t m = 0; m < 3 * shape.num_experts; ++m) {
      std::memcpy(data(weights) + m * one, values.data(), static_cast<size_t>(one) * sizeof(float));
    }
  }
  static float* data(kernels::Slab& slab) { return reinterpret_cast<float*>(slab.data()); }
  template <typename Matrices>
  Matrices matrices(kernels::Slab& slab) const {
    return {data(slab), data(slab) + matrix, data(slab) + 2 * matrix};
  }
  std::int64_t matrix;
  kernels::Slab weights;
  kernels::Slab gradients;
};

class Bench {
 public:
  Bench(const MoeBenchOptions& options, const LayerShape& shape)
      : options_(options), shape_(shape), generator_(options.seed) {
    values_ =
        normal_values(std::max(shape.intermediate_size, shape.shared_size) * shape.hidden_size,
                      0.02F, generator_);
    if (options.routing == RoutingKind::kTrace) load_trace();
  }

  /// So many layers that four times the last-level cache pass before one is read again.
  std::int64_t layers_for(double bytes_per_step, double bytes_per_layer) const {
    const double cache = options_.cache_bytes > 0 ? options_.cache_bytes : cache_bytes();
    const double wanted = std::ceil(4 * cache / bytes_per_step);
    return std::max<std::int64_t>(
        1, static_cast<std::int64_t>(std::min(wanted, kMostBytes / bytes_per_layer)));
  }

  std::vector<Routed> make_plans(std::int64_t tokens) {
    std::vector<Routed> plans;
    for (std::int64_t i = 0; i < kPlans; ++i) {
      plans.push_back(make_routing(options_, shape_, tokens, trace_, i, generator_));
    }
    return plans;
  }

  static double mean_distinct(const std::vector<Routed>& plans) {
    double sum = 0;
    for (const auto& p : plans) sum += static_cast<double>(p.plan.active.size());
    return sum / static_cast<double>(plans.size());
  }

  std::vector<float> make_tokens(std::int64_t tokens) {
    return normal_values(tokens * shape_.hidden_size, 1, generator_);
  }

  std::vector<double> time_forward(const std::vector<PackedLayer>& layers,
                                   const std::vector<Routed>& plans,
                                   const std::vector<float>& tokens,
                                   const kernels::Execution& execution) {
    std::vector<float> output(tokens.size());
    std::vector<kernels::FfnBank> banks(shape_.shared_size > 0 ? 2 : 1);
    return time_steps(options_, count_of(layers), [&](std::int64_t turn) {
      const auto& layer = layers[static_cast<size_t>(turn) % layers.size()];
      const auto& routed = plans[static_cast<size_t>(turn) % plans.size()];
      banks[0] = {&layer.routed, &routed.plan};
      if (banks.size() > 1) banks[1] = {&layer.shared, &routed.shared};
      kernels::expert_ffn_forward(banks, tokens.data(), output.data(), execution);
    });
  }

  std::vector<double> time_train(std::vector<TrainLayer>& layers, const std::vector<Routed>& plans,
                                 const std::vector<float>& tokens, kernels::ComputeType compute,
                                 const kernels::Execution& execution) {
    std::vector<float> output(tokens.size()), grad_tokens(tokens.size());
    std::vector<float> grad_weight(static_cast<size_t>(plans[0].index.numel()));
    const auto grad_output = make_tokens(plans[0].plan.num_tokens);
    kernels::FfnTape tape;
    return time_steps(options_, count_of(layers), [&](std::int64_t turn) {
      auto& layer = layers[static_cast<size_t>(turn) % layers.size()];
      const kernels::TrainBank bank{
          ffn_shape(shape_.num_experts, shape_.hidden_size, shape_.intermediate_size),
          layer.matrices<kernels::ExpertMatrices>(layer.weights),
          &plans[static_cast<size_t>(turn) % plans.size()].plan, compute};
      kernels::expert_ffn_train_forward(bank, tokens.data(), output.data(), &tape, execution);
      kernels::expert_ffn_backward(
          bank, tokens.data(), grad_output.data(), tape,
          {grad_tokens.data(), grad_weight.data(),
           layer.matrices<kernels::MutableExpertMatrices>(layer.gradients)},
          execution);
    });
  }

  std::vector<double> time_baseline(const Baseline& baseline, std::int64_t layers,
                                    const std::vector<Routed>& plans,
                                    const std::vector<float>& tokens) {
    const auto x = torch::from_blob(const_cast<float*>(tokens.data()),
                                    {plans[0].plan.num_tokens, shape_.hidden_size})
                       .clone();
    return time_steps(options_, layers, [&](std::int64_t turn) {
      const auto& routed = plans[static_cast<size_t>(turn) % plans.size()];
      baseline.step(turn % layers, x, routed.index, routed.weight);
    });
  }

  const std::vector<float>& values() const { return values_; }

 private:
  template <typename Layer>
  static std::int64_t count_of(const std::vector<Layer>& layers) {
    return static_cast<std::int64_t>(layers.size());
  }

  void load_trace() {
    const auto trace = metrics::read_trace(options_.trace);
    MOEKIT_CHECK(!trace.layers.empty(), options_.trace.string(), ": has no layer");
    const auto& layer = trace.layers.front();
    MOEKIT_CHECK(layer.num_experts() == shape_.num_experts &&
                     layer.expert_index.size(1) >= shape_.top_k && layer.expert_index.size(0) > 0,
                 options_.trace.string(), ": layer ", layer.name, " has ",
                 layer.expert_index.size(1), " of ", layer.num_experts(),
                 " experts a token; shape ", shape_.name, " has ", shape_.top_k, " of ",
                 shape_.num_experts);
    trace_ = layer.expert_index.slice(1, 0, shape_.top_k).contiguous();
  }

  const MoeBenchOptions& options_;
  const LayerShape& shape_;
  std::mt19937_64 generator_;
  std::vector<float> values_;
  torch::Tensor trace_;
};

void check_options(const MoeBenchOptions& options) {
  MOEKIT_CHECK(!options.tokens.empty() && !options.threads.empty(),
               "bench: needs at least one number of tokens and of threads");
  for (const auto n : options.tokens) {
    MOEKIT_CHECK(n >= 1 && n <= 65536, "bench: tokens must be 1..65536; got ", n);
  }
  for (const auto t : options.threads) {
    MOEKIT_CHECK(t >= 1 && t <= 256, "bench: threads must be 1..256; got ", t);
  }
  MOEKIT_CHECK(options.min_runs >= 1, "bench: runs must be at least 1; got ", options.min_runs);
  MOEKIT_CHECK((options.routing == RoutingKind::kTrace) == !options.trace.empty(),
               "bench: routing trace and a trace file go together");
  if (options.pass == Pass::kTrain) {
    for (const auto f : options.formats) {
      MOEKIT_CHECK(f == WeightFormat::kF32 || f == WeightFormat::kBf16,
                   "bench: a training step takes formats f32 and bf16; got ",
                   kernels::format_info(f).name);
    }
  }
  MOEKIT_CHECK(kernels::isa_supported(options.isa), "bench: this machine lacks ",
               kernels::isa_name(options.isa));
}

}  // namespace

const std::vector<LayerShape>& layer_shapes() {
  static const std::vector<LayerShape> kShapes{
      {"mixtral4", 8, 2, 1024, 3584, 0, "Mixtral with a quarter of the widths"},
      {"olmoe", 64, 8, 2048, 1024, 0, "OLMoE-1B-7B"},
      {"qwen3-30b", 128, 8, 2048, 768, 0, "Qwen3-30B-A3B"},
      {"deepseek-v2-lite", 64, 6, 2048, 1408, 2816, "DeepSeek-V2-Lite, two shared experts as one"},
      {"tiny", 16, 2, 128, 128, 0, "a small research model"},
  };
  return kShapes;
}

const LayerShape& find_layer_shape(std::string_view name) {
  std::string known;
  for (const auto& shape : layer_shapes()) {
    if (shape.name == name) return shape;
    known += (known.empty() ? "" : ", ") + std::string(shape.name);
  }
  throw ArgumentError(concat("shape \"", name, "\" is unknown; wanted one of ", known));
}

MoeBenchReport run_moe_bench(
    const MoeBenchOptions& options,
    const std::function<void(int threads, const kernels::MachineLimits&)>& on_limits,
    const std::function<void(const MoeBenchRow&)>& on_row, const std::function<bool()>& go_on) {
  check_options(options);
  const LayerShape& shape = find_layer_shape(options.shape);
  const bool train = options.pass == Pass::kTrain;
  Bench bench(options, shape);
  MoeBenchReport report{options.isa, {}, {}};
  std::vector<std::unique_ptr<kernels::ThreadPool>> pools;
  kernels::MachineProbe probe;
  const auto measure = [&](kernels::ThreadPool& pool) {
    return options.isa == kernels::Isa::kReference ? kernels::MachineLimits{}
                                                   : probe.measure(pool, options.isa);
  };
  for (const int threads : options.threads) {
    pools.push_back(std::make_unique<kernels::ThreadPool>(threads));
    const auto limits = measure(*pools.back());
    report.limits.emplace_back(threads, limits);
    if (on_limits) on_limits(threads, limits);
  }
  auto formats = options.formats;
  if (formats.empty()) {
    for (const auto& info : kernels::weight_formats()) {
      if (!train || info.per_step <= 2) formats.push_back(info.format);
    }
  }
  kernels::Workspace workspace;
  const double weights =
      static_cast<double>(3 * shape.hidden_size * shape.intermediate_size);  // of an expert
  const double shared_weights = static_cast<double>(3 * shape.hidden_size * shape.shared_size);

  // Baselines of every (tokens, threads) first: with their weights in memory and gone again.
  std::vector<std::vector<Routed>> plans;
  std::vector<std::vector<float>> tokens;
  for (const auto n : options.tokens) {
    plans.push_back(bench.make_plans(n));
    tokens.push_back(bench.make_tokens(n));
  }
  const auto distinct_of = [&](size_t n) { return Bench::mean_distinct(plans[n]); };
  const auto bytes_of = [&](size_t n, double bits) {
    return (distinct_of(n) * weights + shared_weights) * bits / 8;
  };
  const double layer_weights = static_cast<double>(shape.num_experts) * weights + shared_weights;
  struct BaselineTimes {
    std::string name;
    std::vector<double> ms;  // [tokens][threads]
  };
  std::vector<BaselineTimes> others;
  if (options.baselines && go_on()) {
    double smallest = 1e30;
    for (size_t n = 0; n < plans.size(); ++n) smallest = std::min(smallest, bytes_of(n, 32));
    const auto layers = bench.layers_for(smallest, layer_weights * 4 * (train ? 2 : 1));
    for (const auto& baseline : make_baselines(shape, options.pass, layers)) {
      BaselineTimes times{baseline.name, {}};
      for (size_t n = 0; n < plans.size(); ++n) {
        for (const int threads : options.threads) {
          if (!go_on()) return report;
          at::set_num_threads(threads);
          const auto ms = bench.time_baseline(baseline, layers, plans[n], tokens[n]);
          times.ms.push_back(ms[ms.size() / 2]);
        }
      }
      others.push_back(std::move(times));
    }
  }

  for (const auto format : formats) {
    const auto& info = kernels::format_info(format);
    const double bits = train ? 32 : info.bits_per_weight;
    double smallest = 1e30;
    for (size_t n = 0; n < plans.size(); ++n) smallest = std::min(smallest, bytes_of(n, bits));
    const auto layers = bench.layers_for(smallest, layer_weights * bits / 8 * (train ? 2 : 1));
    std::vector<PackedLayer> packed;
    std::vector<TrainLayer> trained;
    packed.reserve(static_cast<size_t>(layers));
    for (std::int64_t l = 0; l < layers; ++l) {
      if (!go_on()) return report;
      if (train) {
        trained.emplace_back(shape, bench.values());
      } else if (l == 0) {
        packed.emplace_back(shape, format, bench.values());
      } else {
        packed.emplace_back(packed.front());
      }
    }
    for (size_t n = 0; n < plans.size(); ++n) {
      for (size_t t = 0; t < pools.size(); ++t) {
        if (!go_on()) return report;
        const kernels::Execution execution{pools[t].get(), &workspace, options.isa};
        const auto before = measure(*pools[t]);
        const auto ms =
            train ? bench.time_train(trained, plans[n], tokens[n],
                                     format == WeightFormat::kBf16 ? kernels::ComputeType::kBf16
                                                                   : kernels::ComputeType::kF32,
                                     execution)
                  : bench.time_forward(packed, plans[n], tokens[n], execution);
        MoeBenchRow row;
        const auto& limits = row.limits = kernels::best_of(before, measure(*pools[t]));
        row.format = info.name;
        row.tokens = options.tokens[n];
        row.threads = options.threads[t];
        row.runs = static_cast<std::int64_t>(ms.size());
        row.layers = layers;
        row.distinct_experts = distinct_of(n) + (shape.shared_size > 0 ? 1 : 0);
        row.median_ms = ms[ms.size() / 2];
        row.p10_ms = ms[ms.size() / 10];
        const double rows = static_cast<double>(row.tokens * shape.top_k);
        const double operations =
            2 * (rows * weights + static_cast<double>(row.tokens) * shared_weights) *
            (train ? 3 : 1);
        const double bytes = bytes_of(n, bits) * (train ? 3 : 1);
        row.operations_per_second = operations / (row.median_ms / 1e3);
        row.bytes_per_second = bytes / (row.median_ms / 1e3);
        const double peak = limits.operations_per_second(info);
        if (peak > 0) {
          row.peak_fraction = row.operations_per_second / peak;
          row.read_fraction = row.bytes_per_second / limits.read_bytes_per_second;
          row.bound_ms = 1e3 * std::max(operations / peak, bytes / limits.read_bytes_per_second);
          row.bound_fraction = row.bound_ms / row.median_ms;
        }
        for (const auto& other : others) {
          row.ratios.emplace_back(other.name, other.ms[n * pools.size() + t] / row.median_ms);
        }
        if (on_row) on_row(row);
        report.rows.push_back(std::move(row));
      }
    }
  }
  return report;
}

Json to_json(const MoeBenchOptions& options, const MoeBenchReport& report) {
  const LayerShape& shape = find_layer_shape(options.shape);
  Json out;
  out["shape"] = {{"name", shape.name},
                  {"num_experts", shape.num_experts},
                  {"top_k", shape.top_k},
                  {"hidden_size", shape.hidden_size},
                  {"intermediate_size", shape.intermediate_size},
                  {"shared_size", shape.shared_size}};
  out["pass"] = enum_name(options.pass);
  out["routing"] = enum_name(options.routing);
  out["isa"] = kernels::isa_name(report.isa);
  out["seed"] = options.seed;
  out["limits"] = Json::array();
  for (const auto& [threads, limits] : report.limits) {
    out["limits"].push_back({{"threads", threads},
                             {"f32_per_second", limits.f32_per_second},
                             {"bf16_per_second", limits.bf16_per_second},
                             {"int8_per_second", limits.int8_per_second},
                             {"read_bytes_per_second", limits.read_bytes_per_second}});
  }
  out["rows"] = Json::array();
  for (const auto& row : report.rows) {
    Json ratios = Json::object();
    for (const auto& [name, ratio] : row.ratios) ratios[name] = ratio;
    out["rows"].push_back(
        {{"format", row.format},
         {"tokens", row.tokens},
         {"threads", row.threads},
         {"runs", row.runs},
         {"layers", row.layers},
         {"distinct_experts", row.distinct_experts},
         {"median_ms", row.median_ms},
         {"p10_ms", row.p10_ms},
         {"operations_per_second", row.operations_per_second},
         {"bytes_per_second", row.bytes_per_second},
         {"peak_per_second", row.limits.operations_per_second(
                                 kernels::format_info(kernels::parse_weight_format(row.format)))},
         {"read_bytes_per_second", row.limits.read_bytes_per_second},
         {"bound_ms", row.bound_ms},
         {"bound_fraction", row.bound_fraction},
         {"peak_fraction", row.peak_fraction},
         {"read_fraction", row.read_fraction},
         {"times_as_fast_as", ratios}});
  }
  return out;
}

}  // namespace moekit::bench
