#include "moekit/bench/moe_bench.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "moekit/bench/baselines.h"
#include "moekit/bench/layers.h"
#include "moekit/bench/routing.h"
#include "moekit/bench/timing.h"
#include "moekit/core/memory.h"
#include "moekit/core/numbers.h"
#include "moekit/kernels/ffn/expert_ffn.h"

namespace moekit::bench {
namespace {

using kernels::WeightFormat;

constexpr double kMemoryShare = 0.4;  // of what is free: our weights, and as many of a baseline's
constexpr double kMostLayers = 1000;  // of a tiny shape
constexpr int kRounds = 5;            // in which ours and the baselines take turns

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
        cache_bytes_(options.cache_bytes > 0 ? options.cache_bytes : last_level_cache_bytes()),
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
    if (options_.baselines) {
      baseline_layers_ = count_layers(32);
      baselines_ = make_baselines(shape_, options_.pass, baseline_layers_);
    }
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
    const double read = bytes_read(work, bits);
    return {2 *
                (static_cast<double>(work.tokens * shape_.top_k) * shape_.expert_weights() +
                 tokens * shape_.shared_weights()) *
                (train_ ? 3 : 1),
            train_ ? 2 * read : read, train_ ? read : 0};
  }

  /// So many layers that four times the last-level cache pass before the same weights are read
  /// again, as far as there is memory for them.
  std::int64_t count_layers(double bits) const {
    const double of_layer = shape_.layer_weights() * bits / 8 * (train_ ? 2 : 1);
    const auto most =
        to_integer(std::clamp(std::floor(kMemoryShare * free_memory_ / of_layer), 1.0, kMostLayers),
                   "number of layers");
    // What passes grows about as the layers do; where it does not, one more at a time.
    std::int64_t layers = 1;
    for (const auto& work : workloads_) {
      while (layers < most) {
        const double again = reuse_bytes(work, bits, layers);
        if (again == 0 || again >= 4 * cache_bytes_) break;
        const double wanted = std::ceil(static_cast<double>(layers) * 4 * cache_bytes_ / again);
        layers = std::max(layers + 1,
                          static_cast<std::int64_t>(std::min(wanted, static_cast<double>(most))));
      }
    }
    return layers;
  }

  /// Bytes of weights that pass, on the mean, before the same ones are read again: an expert of a
  /// layer comes back when both the layer's turn and a plan that wants it do.
  double reuse_bytes(const Workload& work, double bits, std::int64_t layers) const {
    const double of_expert = shape_.expert_weights() * bits / 8;
    const double of_shared = shape_.shared_weights() * bits / 8;
    std::vector<double> last(static_cast<size_t>(layers * shape_.num_experts), -1);
    double passed = 0, sum = 0;
    std::int64_t again = 0;
    const auto plans = std::ssize(work.plans);
    // Every pair of layer and plan comes twice.
    for (std::int64_t turn = 0; turn < 2 * layers * plans; ++turn) {
      const auto& plan = work.plans[static_cast<size_t>(turn % plans)].plan;
      for (const auto expert : plan.active) {
        double& at = last[static_cast<size_t>(turn % layers * shape_.num_experts + expert)];
        if (at >= 0) {
          sum += passed - at;
          ++again;
        }
        at = passed;
        passed += of_expert;
      }
      passed += of_shared;
    }
    return again == 0 ? 0 : sum / static_cast<double>(again);
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
    const auto step = train_ ? train_step(layers.trained, work, format, execution)
                             : forward_step(layers.packed, work, execution);
    const auto num_layers =
        static_cast<std::int64_t>(train_ ? layers.trained.size() : layers.packed.size());
    at::set_num_threads(options_.threads[t]);
    const double bits = train_ ? 32 : info.bits_per_weight;
    const StepCost cost = cost_of(work, bits);
    auto others = baseline_steps(work);
    if (!train_ && paths_.f32 != kernels::Isa::kReference) {
      others.push_back(
          [&] { probe_.read(*pools_[t], paths_.f32, static_cast<std::int64_t>(cost.bytes_read)); });
    }
    const auto times = time_turns(work, num_layers, step, others);
    row.limits = best_of(row.limits, measure_machine(*pools_[t]));
    row.format = info.name;
    row.tokens = work.tokens;
    row.threads = options_.threads[t];
    row.layers = num_layers;
    row.distinct_experts = work.distinct + (shape_.shared_size > 0 ? 1 : 0);
    row.reuse_bytes = reuse_bytes(work, bits, num_layers);
    if (others.size() > baselines_.size()) row.plain_read_ms = median(times.back());
    rate_row(row, times.front(), cost, info);
    for (size_t i = 0; i < baselines_.size(); ++i) {
      row.ratios.emplace_back(baselines_[i].name, median(times[i + 1]) / row.median_ms);
    }
    return row;
  }

  using Step = std::function<void(std::int64_t layer, const Routed& routed)>;

  /// Each baseline's next step, over its layers and the plans in turn.
  std::vector<std::function<void()>> baseline_steps(const Workload& work) {
    const auto tokens =
        torch::from_blob(const_cast<float*>(work.values.data()), {work.tokens, shape_.hidden_size})
            .clone();
    std::vector<std::function<void()>> steps;
    for (const auto& baseline : baselines_) {
      steps.push_back([this, &baseline, &work, tokens, turn = std::int64_t{0}]() mutable {
        const auto& routed = work.plans[static_cast<size_t>(turn) % work.plans.size()];
        baseline.step(turn++ % baseline_layers_, tokens, routed.index, routed.weight);
      });
    }
    return steps;
  }

  /// Milliseconds of our step's runs, sorted, and of each of `others`. They take turns, so that
  /// what else the machine does meets all of them: in each round our share of the runs, then each
  /// of the others once or for a share of the time. Layers and plans take turns too.
  std::vector<std::vector<double>> time_turns(const Workload& work, std::int64_t layers,
                                              const Step& step,
                                              const std::vector<std::function<void()>>& others) {
    const Enough of_round{(options_.enough.runs + kRounds - 1) / kRounds,
                          options_.enough.seconds / kRounds};
    const Enough of_other{1, of_round.seconds / 4};
    std::vector<std::vector<double>> times(1 + others.size());
    std::int64_t turn = 0;
    const auto ours = [&] {
      step(turn % layers, work.plans[static_cast<size_t>(turn) % work.plans.size()]);
      ++turn;
    };
    warm_up(std::max<std::int64_t>(2, layers), ours);
    for (const auto& other : others) warm_up(std::max<std::int64_t>(2, baseline_layers_), other);
    for (int round = 0; round < kRounds; ++round) {
      time_more(of_round, ours, times[0]);
      for (size_t i = 0; i < others.size(); ++i) time_more(of_other, others[i], times[i + 1]);
    }
    std::sort(times.front().begin(), times.front().end());
    return times;
  }

  Step forward_step(const std::vector<PackedLayer>& layers, const Workload& work,
                    const kernels::Execution& execution) {
    output_.resize(work.values.size());
    return [this, &layers, &work, execution](std::int64_t l, const Routed& routed) {
      const auto& layer = layers[static_cast<size_t>(l)];
      std::vector<kernels::FfnBank> banks{{&layer.routed, &routed.plan}};
      if (shape_.shared_size > 0) banks.push_back({&layer.shared, &routed.shared});
      kernels::expert_ffn_forward(banks, work.values.data(), output_.data(), execution);
    };
  }

  Step train_step(std::vector<TrainLayer>& layers, const Workload& work, WeightFormat format,
                  const kernels::Execution& execution) {
    const auto compute =
        format == WeightFormat::kBf16 ? kernels::ComputeType::kBf16 : kernels::ComputeType::kF32;
    output_.resize(work.values.size());
    grad_tokens_.resize(work.values.size());
    grad_weight_.resize(static_cast<size_t>(work.plans[0].index.numel()));
    grad_output_ = make_tokens(work.tokens);
    return [this, &layers, &work, compute, execution](std::int64_t l, const Routed& routed) {
      auto& layer = layers[static_cast<size_t>(l)];
      const float* tokens = work.values.data();
      const auto bank = layer.bank(routed.plan, compute);
      kernels::expert_ffn_train_forward(bank, tokens, output_.data(), &tape_, execution);
      kernels::expert_ffn_backward(bank, tokens, grad_output_.data(), tape_,
                                   {grad_tokens_.data(), grad_weight_.data(), layer.gradients()},
                                   execution);
    };
  }

  const MoeBenchOptions& options_;
  const LayerShape& shape_;
  const std::function<bool()>& go_on_;
  kernels::FormatPaths paths_;
  bool train_;
  std::mt19937_64 generator_;
  double cache_bytes_;
  double free_memory_ = static_cast<double>(available_memory());  // before any weights
  std::vector<float> parameters_;                                 // of an expert, the same for all
  RoutingSource routing_;
  std::vector<std::unique_ptr<kernels::ThreadPool>> pools_;
  MachineProbe probe_{cache_bytes_};
  kernels::Workspace workspace_;
  std::vector<Workload> workloads_;
  std::vector<Baseline> baselines_;
  std::int64_t baseline_layers_ = 0;
  // What steps write to.
  std::vector<float> output_, grad_tokens_, grad_weight_, grad_output_;
  kernels::FfnTape tape_;
};

}  // namespace

MoeBenchReport run_moe_bench(const MoeBenchOptions& options, const OnLimits& on_limits,
                             const OnRow& on_row, const std::function<bool()>& go_on) {
  check_options(options);
  return Bench(options, find_layer_shape(options.shape), go_on).run(on_limits, on_row);
}

}  // namespace moekit::bench
