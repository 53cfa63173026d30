#include "moekit/bench/moe_bench.h"

#include <ATen/Parallel.h>
#include <torch/types.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "moekit/bench/baselines.h"
#include "moekit/bench/layers.h"
#include "moekit/bench/routing.h"
#include "moekit/core/error.h"
#include "moekit/core/numbers.h"
#include "moekit/kernels/ffn/expert_ffn.h"

namespace moekit::bench {
namespace {

using kernels::WeightFormat;

constexpr double kMostBytes = 5e9;  // of the weights that lie in memory at once

double last_level_cache_bytes() {
  const long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return bytes > 0 ? static_cast<double>(bytes) : 32e6;
}

std::vector<float> normal_values(std::int64_t count, float scale, std::mt19937_64& generator) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (auto& v : values) v = normal(generator);
  return values;
}

/// Inputs of the steps with one number of tokens.
struct Workload {
  std::int64_t tokens;
  std::vector<Routed> plans;
  std::vector<float> values;  // [N, D]
  double distinct;            // experts that a step reads, without shared ones
};

struct BaselineTimes {
  std::string name;
  std::vector<double> median_ms;  // [workloads][threads]
};

/// The layers of one format that steps take in turn: one of the two, as the pass is.
struct Layers {
  std::vector<PackedLayer> packed;
  std::vector<TrainLayer> trained;
};

using OnLimits = std::function<void(int threads, const MachineLimits&)>;
using OnRow = std::function<void(const MoeBenchRow&)>;

/// One call of run_moe_bench().
class Bench {
 public:
  Bench(const MoeBenchOptions& options, const LayerShape& shape, const std::function<bool()>& go_on)
      : options_(options),
        shape_(shape),
        go_on_(go_on),
        paths_(paths_of(options)),
        train_(options.pass == Pass::kTrain),
        generator_(options.seed),
        parameters_(
            normal_values(std::max(shape.intermediate_size, shape.shared_size) * shape.hidden_size,
                          0.02F, generator_)),
        routing_(options.routing, options.trace, shape) {}

  MoeBenchReport run(const OnLimits& on_limits, const OnRow& on_row) {
    MoeBenchReport report{shape_, options_.pass, options_.routing, paths_, options_.seed, {}, {}};
    for (const int threads : options_.threads) {
      pools_.push_back(std::make_unique<kernels::ThreadPool>(threads));
      report.limits.emplace_back(threads, measure_machine(*pools_.back()));
      if (on_limits) on_limits(threads, report.limits.back().second);
    }
    for (const auto n : options_.tokens) {
      auto plans = routing_.make(n, generator_);
      const double distinct = mean_distinct(plans);
      workloads_.push_back({n, std::move(plans), make_tokens(n), distinct});
    }
    // Baselines first: with their weights in memory and gone again.
    if (options_.baselines && !time_baselines()) return report;
    for (const auto format : formats()) {
      if (!time_format(format, report.rows, on_row)) break;
    }
    return report;
  }

 private:
  std::vector<WeightFormat> formats() const {
    auto formats = options_.formats;
    if (!formats.empty()) return formats;
    for (const auto& info : kernels::weight_formats()) {
      if (!train_ || info.per_step <= 2) formats.push_back(info.format);
    }
    return formats;
  }

  MachineLimits measure_machine(kernels::ThreadPool& pool) {
    if (paths_.f32 == kernels::Isa::kReference) return {};
    return probe_.measure(pool, paths_);
  }

  std::vector<float> make_tokens(std::int64_t tokens) {
    return normal_values(tokens * shape_.hidden_size, 1, generator_);
  }

  /// Of weights that a forward pass reads.
  double bytes_read(const Workload& work, double bits) const {
    return (work.distinct * shape_.expert_weights() + shape_.shared_weights()) * bits / 8;
  }

  StepCost cost_of(const Workload& work, double bits) const {
    const auto tokens = static_cast<double>(work.tokens);
    const double passes = train_ ? 3 : 1;
    return {2 *
                (static_cast<double>(work.tokens * shape_.top_k) * shape_.expert_weights() +
                 tokens * shape_.shared_weights()) *
                passes,
            bytes_read(work, bits) * passes};
  }

  /// So many layers that four times the last-level cache pass before one is read again.
  std::int64_t count_layers(double bits) const {
    double smallest = 1e30;
    for (const auto& work : workloads_) smallest = std::min(smallest, bytes_read(work, bits));
    const double cache = options_.cache_bytes > 0 ? options_.cache_bytes : last_level_cache_bytes();
    const double wanted = std::ceil(4 * cache / smallest);
    const double of_layer = shape_.layer_weights() * bits / 8 * (train_ ? 2 : 1);
    return to_integer(std::max(1.0, std::floor(std::min(wanted, kMostBytes / of_layer))),
                      "number of layers");
  }

  /// False when told to stop.
  bool time_baselines() {
    if (!go_on_()) return false;
    const auto layers = count_layers(32);
    for (const auto& baseline : make_baselines(shape_, options_.pass, layers)) {
      BaselineTimes times{baseline.name, {}};
      for (const auto& work : workloads_) {
        for (const int threads : options_.threads) {
          if (!go_on_()) return false;
          at::set_num_threads(threads);
          const auto ms = time_baseline(baseline, layers, work);
          times.median_ms.push_back(ms[ms.size() / 2]);
        }
      }
      baselines_.push_back(std::move(times));
    }
    return true;
  }

  /// False when told to stop.
  bool make_layers(WeightFormat format, std::int64_t count, Layers& layers) {
    layers.packed.reserve(static_cast<size_t>(count));
    for (std::int64_t l = 0; l < count; ++l) {
      if (!go_on_()) return false;
      if (train_) {
        layers.trained.emplace_back(shape_, parameters_);
      } else if (l == 0) {
        layers.packed.emplace_back(shape_, format, parameters_);
      } else {
        layers.packed.emplace_back(layers.packed.front());
      }
    }
    return true;
  }

  /// False when told to stop.
  bool time_format(WeightFormat format, std::vector<MoeBenchRow>& rows, const OnRow& on_row) {
    const double bits = train_ ? 32 : kernels::format_info(format).bits_per_weight;
    Layers layers;
    if (!make_layers(format, count_layers(bits), layers)) return false;
    for (size_t n = 0; n < workloads_.size(); ++n) {
      for (size_t t = 0; t < pools_.size(); ++t) {
        if (!go_on_()) return false;
        rows.push_back(time_row(format, layers, n, t));
        if (on_row) on_row(rows.back());
      }
    }
    return true;
  }

  MoeBenchRow time_row(WeightFormat format, Layers& layers, size_t n, size_t t) {
    const auto& info = kernels::format_info(format);
    const auto& work = workloads_[n];
    const kernels::Execution execution{pools_[t].get(), &workspace_, paths_};
    MoeBenchRow row;
    row.limits = measure_machine(*pools_[t]);
    const auto ms = train_ ? time_train(layers.trained, work, format, execution)
                           : time_forward(layers.packed, work, execution);
    row.limits = best_of(row.limits, measure_machine(*pools_[t]));
    row.format = info.name;
    row.tokens = work.tokens;
    row.threads = options_.threads[t];
    row.layers = static_cast<std::int64_t>(train_ ? layers.trained.size() : layers.packed.size());
    row.distinct_experts = work.distinct + (shape_.shared_size > 0 ? 1 : 0);
    rate_row(row, ms, cost_of(work, train_ ? 32 : info.bits_per_weight), info);
    for (const auto& other : baselines_) {
      row.ratios.emplace_back(other.name, other.median_ms[n * pools_.size() + t] / row.median_ms);
    }
    return row;
  }

  /// Times step(layer, plan); layers and plans take turns. Every layer is seen once before.
  template <typename Step>
  std::vector<double> time_turns(std::int64_t layers, const Workload& work, const Step& step) {
    return time_steps(options_.enough, std::max<std::int64_t>(2, layers), [&](std::int64_t turn) {
      step(turn % layers, work.plans[static_cast<size_t>(turn) % work.plans.size()]);
    });
  }

  std::vector<double> time_forward(const std::vector<PackedLayer>& layers, const Workload& work,
                                   const kernels::Execution& execution) {
    std::vector<float> output(work.values.size());
    std::vector<kernels::FfnBank> banks(shape_.shared_size > 0 ? 2 : 1);
    return time_turns(
        static_cast<std::int64_t>(layers.size()), work, [&](std::int64_t l, const Routed& routed) {
          const auto& layer = layers[static_cast<size_t>(l)];
          banks[0] = {&layer.routed, &routed.plan};
          if (banks.size() > 1) banks[1] = {&layer.shared, &routed.shared};
          kernels::expert_ffn_forward(banks, work.values.data(), output.data(), execution);
        });
  }

  std::vector<double> time_train(std::vector<TrainLayer>& layers, const Workload& work,
                                 WeightFormat format, const kernels::Execution& execution) {
    const auto compute =
        format == WeightFormat::kBf16 ? kernels::ComputeType::kBf16 : kernels::ComputeType::kF32;
    const float* tokens = work.values.data();
    std::vector<float> output(work.values.size()), grad_tokens(work.values.size());
    std::vector<float> grad_weight(static_cast<size_t>(work.plans[0].index.numel()));
    const auto grad_output = make_tokens(work.tokens);
    kernels::FfnTape tape;
    return time_turns(
        static_cast<std::int64_t>(layers.size()), work, [&](std::int64_t l, const Routed& routed) {
          auto& layer = layers[static_cast<size_t>(l)];
          const auto bank = layer.bank(routed.plan, compute);
          kernels::expert_ffn_train_forward(bank, tokens, output.data(), &tape, execution);
          kernels::expert_ffn_backward(bank, tokens, grad_output.data(), tape,
                                       {grad_tokens.data(), grad_weight.data(), layer.gradients()},
                                       execution);
        });
  }

  std::vector<double> time_baseline(const Baseline& baseline, std::int64_t layers,
                                    const Workload& work) {
    const auto x =
        torch::from_blob(const_cast<float*>(work.values.data()), {work.tokens, shape_.hidden_size})
            .clone();
    return time_turns(layers, work, [&](std::int64_t l, const Routed& routed) {
      baseline.step(l, x, routed.index, routed.weight);
    });
  }

  const MoeBenchOptions& options_;
  const LayerShape& shape_;
  const std::function<bool()>& go_on_;
  kernels::FormatPaths paths_;
  bool train_;
  std::mt19937_64 generator_;
  std::vector<float> parameters_;  // of an expert, the same for all
  RoutingSource routing_;
  std::vector<std::unique_ptr<kernels::ThreadPool>> pools_;
  MachineProbe probe_;
  kernels::Workspace workspace_;
  std::vector<Workload> workloads_;
  std::vector<BaselineTimes> baselines_;
};

}  // namespace

MoeBenchReport run_moe_bench(const MoeBenchOptions& options, const OnLimits& on_limits,
                             const OnRow& on_row, const std::function<bool()>& go_on) {
  check_options(options);
  return Bench(options, find_layer_shape(options.shape), go_on).run(on_limits, on_row);
}

}  // namespace moekit::bench
