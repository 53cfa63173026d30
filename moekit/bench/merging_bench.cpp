#include "moekit/bench/merging_bench.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "moekit/bench/machine.h"
#include "moekit/merge/align_units.h"
#include "moekit/merge/average.h"
#include "moekit/nn/experts/mlp_experts.h"
#include "moekit/tensor/generator.h"

namespace moekit::bench {
namespace {

nn::MlpExpertsImpl make_experts(int64_t hidden_size, int64_t units, int64_t experts,
                                const at::Generator& generator) {
  nn::MlpExpertsImpl bank(
      nn::MlpExpertsOptions(hidden_size, units, experts).activation(nn::Activation::kSwiglu));
  bank.reset_parameters(generator);
  return bank;
}

/// What one writes with libtorch alone.
void add_terms(const std::vector<nn::ExpertTensors>& experts) {
  const double share = 1.0 / static_cast<double>(experts.size());
  for (size_t t = 0; t < experts.front().size(); ++t) {
    auto sum = torch::zeros_like(experts.front()[t].second);
    for (const auto& expert : experts) sum.add_(expert[t].second, share);
  }
}

}  // namespace

MergingBench run_merging_bench(const MergingBenchOptions& options) {
  check_options(options);
  const torch::NoGradGuard no_grad;
  at::set_num_threads(static_cast<int>(options.threads));
  kernels::ThreadPool pool(static_cast<int>(options.threads));
  MachineProbe probe;
  const auto generator = tensor::make_generator(options.seed);
  const auto bank =
      make_experts(options.hidden_size, options.intermediate_size, options.num_experts, generator);
  std::vector<nn::ExpertTensors> experts;
  MergingBench result;
  for (int64_t e = 0; e < options.num_experts; ++e) {
    experts.push_back(nn::expert_tensors(bank, e));
  }
  double one = 0;
  for (const auto& [name, tensor] : experts.front()) one += static_cast<double>(tensor.nbytes());
  result.bytes = one * static_cast<double>(options.num_experts + 1);
  const std::vector<double> weights(experts.size(), 1);
  std::vector<double> ours, theirs;
  MachineLimits limits;
  time_steps(options.enough, 1, [&](std::int64_t turn) {
    limits = best_of(limits, probe.measure(pool, kernels::default_isa()));
    ours.push_back(fastest(1, [&] { merge::average(experts, weights); }) * 1e3);
    theirs.push_back(fastest(1, [&] { add_terms(experts); }) * 1e3);
    if (turn == 0) {  // memory is taken then
      ours.clear();
      theirs.clear();
    }
  });
  result.read_per_second = limits.read_bytes_per_second;
  result.runs = static_cast<std::int64_t>(ours.size());
  result.mean_ms = median(ours);
  result.libtorch_ms = median(theirs);
  if (options.units > 0) {
    const auto two = make_experts(options.hidden_size, options.units, 2, generator);
    const auto layers = two.hidden_units();
    result.match_seconds = fastest(1, [&] {
      merge::align_units(*layers, nn::expert_tensors(two, 0), nn::expert_tensors(two, 1));
    });
  }
  return result;
}

Json to_json(const MergingBenchOptions& options, const MergingBench& result) {
  return {{"num_experts", options.num_experts},
          {"hidden_size", options.hidden_size},
          {"intermediate_size", options.intermediate_size},
          {"units", options.units},
          {"threads", options.threads},
          {"seed", options.seed},
          {"runs", result.runs},
          {"bytes", result.bytes},
          {"mean_ms", result.mean_ms},
          {"libtorch_ms", result.libtorch_ms},
          {"bytes_per_second", result.bytes_per_second()},
          {"read_bytes_per_second", result.read_per_second},
          {"share_of_read", result.share_of_read()},
          {"match_seconds", result.match_seconds}};
}

}  // namespace moekit::bench
