// What every metric refuses, word for word.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "moekit/metrics/alignment.h"
#include "moekit/metrics/continual.h"
#include "moekit/metrics/encoder_operations.h"
#include "moekit/metrics/information.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"
#include "moekit/metrics/similarity.h"
#include "moekit/metrics/specialization.h"
#include "tests/support/refusal.h"

namespace moekit::metrics {
namespace {

TEST(MetricsRefusals, SayWhatIsWrong) {
  const auto f = [](at::IntArrayRef sizes) { return torch::zeros(sizes); };
  const auto i = [](at::IntArrayRef sizes) { return torch::zeros(sizes, torch::kLong); };
  const auto b = [](at::IntArrayRef sizes) { return torch::zeros(sizes, torch::kBool); };
  const auto generator = at::detail::createCPUGenerator(1);
  const auto retain = [&](const torch::Tensor& outputs, const torch::Tensor& labels,
                          const torch::Tensor& mask, int64_t keep) {
    subset_retention(torch::full({3, 2}, 0.5), outputs, labels, mask, keep, generator);
  };
  const EncoderShape shape;
  const auto matrix = [](std::vector<double> before, std::vector<std::vector<double>> rows) {
    AccuracyMatrix out;
    out.before = std::move(before);
    out.rows = std::move(rows);
    return out;
  };
  const auto one = matrix({0}, std::vector<std::vector<double>>(1, {0}));
  const std::vector<std::pair<std::string, std::function<void()>>> calls = {
      {"alignment: weights must be [E, d] or [E, J, d] and directions [K, d]; got [2, 3] and [4, "
       "2]",
       [&] {
         alignment(f({2, 3}), f({4, 2}));
       }},
      {"alignment: weights must be [E, d] or [E, J, d] and directions [K, d]; got [3] and [4, 3]",
       [&] {
         alignment(f({3}), f({4, 3}));
       }},
      {"alignment: weights must be [E, d] or [E, J, d] and directions [K, d]; got [2, 3] and [3]",
       [&] {
         alignment(f({2, 3}), f({3}));
       }},
      {"alignment: weights [2, 0, 3] hold no filter",
       [&] {
         alignment(f({2, 0, 3}), f({4, 3}));
       }},
      {"alignment_ratio: products must be [E, K] with K >= 1 and used [E] bool; got [2, 0] and "
       "[2] bool",
       [&] {
         alignment_ratio(f({2, 0}), f({2, 3}), b({2}));
       }},
      {"alignment_ratio: products must be [E, K] with K >= 1 and used [E] bool; got [2, 3] and "
       "[3] bool",
       [&] {
         alignment_ratio(f({2, 3}), f({2, 3}), b({3}));
       }},
      {"directions_covered: products must be [E, K] with K >= 1 and used [E] bool; got [2, 3] "
       "and [2] float",
       [&] {
         directions_covered(f({2, 3}), f({2}));
       }},
      {"directions_covered: products must be [E, K] with K >= 1 and used [E] bool; got [2] and "
       "[2] bool",
       [&] { directions_covered(f({2}), b({2})); }},
      {"sample_entropy: probs must be [N, E] with E >= 1; got [3]",
       [&] { sample_entropy(f({3})); }},
      {"top1_mass: probs must be [N, E] with E >= 1; got [3, 0]",
       [&] {
         top1_mass(f({3, 0}));
       }},
      {"metrics: the table must be [labels, experts]; got [3]", [&] { purity(f({3})); }},
      {"label_expert_counts: labels must be [N] and expert_index [N, K]; got [3] and [2]",
       [&] { label_expert_counts(i({3}), i({2}), 4, 2); }},
      {"label_expert_counts: labels must be [N] and expert_index [N, K]; got [3, 1] and [3]",
       [&] {
         label_expert_counts(i({3, 1}), i({3}), 4, 2);
       }},
      {"label_expert_counts: labels must be [N] and expert_index [N, K]; got [3] and [3, 1, 1]",
       [&] {
         label_expert_counts(i({3}), i({3, 1, 1}), 4, 2);
       }},
      {"label_expert_counts: a table of 67108865 labels and 1 experts; at most 2^26 cells are "
       "counted",
       [&] { label_expert_counts(i({3}), i({3}), (int64_t{1} << 26) + 1, 1); }},
      {"label_expert_counts: a table of -1 labels and 1 experts; at most 2^26 cells are counted",
       [&] { label_expert_counts(i({3}), i({3}), -1, 1); }},
      {"label_expert_counts: a table of 1 labels and -1 experts; at most 2^26 cells are counted",
       [&] { label_expert_counts(i({3}), i({3}), 1, -1); }},
      {"label_expert_counts: labels has 0 at [0]; wanted none at all",
       [&] { label_expert_counts(i({3}), i({3}), 0, 1); }},
      {"label_expert_mass: labels must be [N] and probs [N, E]; got [3] and [2, 2]",
       [&] {
         label_expert_mass(i({3}), f({2, 2}), 4);
       }},
      {"label_expert_mass: labels must be [N] and probs [N, E]; got [3] and [3]",
       [&] { label_expert_mass(i({3}), f({3}), 4); }},
      {"label_expert_mass: labels must be [N] and probs [N, E]; got [3, 1] and [3, 2]",
       [&] {
         label_expert_mass(i({3, 1}), f({3, 2}), 4);
       }},
      {"expert_load: expert must be [A] of E >= 1; got [3, 1] and E = 2",
       [&] {
         expert_load(i({3, 1}), 2);
       }},
      {"expert_load: expert must be [A] of E >= 1; got [3] and E = 0",
       [&] { expert_load(i({3}), 0); }},
      {"load_stats: load must be [E]; got [2, 2]",
       [&] {
         load_stats(f({2, 2}));
       }},
      {"load_stats: load must be [E]; got [0]", [&] { load_stats(f({0})); }},
      {"load_stats: load has -1 at [1]; wanted finite numbers of at least 0",
       [&] {
         load_stats(torch::tensor({1.0, -1.0}));
       }},
      {"coactivation: active must be [N, E] bool; got [3] bool", [&] { coactivation(b({3})); }},
      {"coactivation: active must be [N, E] bool; got [3, 2] long int",
       [&] {
         coactivation(i({3, 2}));
       }},
      {"coactivation_baseline: top_k must be 0..E of E >= 1; got -1 and E = 2",
       [&] { coactivation_baseline(-1, 2); }},
      {"coactivation_baseline: top_k must be 0..E of E >= 1; got 2.5 and E = 2",
       [&] { coactivation_baseline(2.5, 2); }},
      {"router_saturation_baseline: top_k must be 0..E of E >= 1; got 0 and E = 0",
       [&] { router_saturation_baseline(0, 0); }},
      {"router_saturation: both must be [N, E] bool; got [3, 2] bool and [3, 3] bool",
       [&] {
         router_saturation(b({3, 2}), b({3, 3}));
       }},
      {"router_saturation: both must be [N, E] bool; got [3] bool and [3] bool",
       [&] { router_saturation(b({3}), b({3})); }},
      {"router_saturation: both must be [N, E] bool; got [3, 2] float and [3, 2] bool",
       [&] {
         router_saturation(f({3, 2}), b({3, 2}));
       }},
      {"router_saturation: both must be [N, E] bool; got [3, 2] bool and [3, 2] float",
       [&] {
         router_saturation(b({3, 2}), f({3, 2}));
       }},
      {"routing_regret: losses must be [E, N] with E >= 1 and chosen [N]; got [0, 3] and [3]",
       [&] {
         routing_regret(f({0, 3}), i({3}));
       }},
      {"routing_regret: losses must be [E, N] with E >= 1 and chosen [N]; got [2, 3] and [2]",
       [&] {
         routing_regret(f({2, 3}), i({2}));
       }},
      {"routing_regret: losses must be [E, N] with E >= 1 and chosen [N]; got [3] and [3]",
       [&] { routing_regret(f({3}), i({3})); }},
      {"routing_regret: losses must be [E, N] with E >= 1 and chosen [N]; got [2, 3] and [3, 1]",
       [&] {
         routing_regret(f({2, 3}), i({3, 1}));
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [2, 4, 5], [3] and [3] bool",
       [&] {
         retain(f({2, 4, 5}), i({3}), b({3}), 1);
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [1, 3, 5], [3] and [3] bool",
       [&] {
         retain(f({1, 3, 5}), i({3}), b({3}), 1);
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [2, 3], [3] and [3] bool",
       [&] {
         retain(f({2, 3}), i({3}), b({3}), 1);
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [2, 3, 5], [2] and [3] bool",
       [&] {
         retain(f({2, 3, 5}), i({2}), b({3}), 1);
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [2, 3, 5], [3, 1] and [3] bool",
       [&] {
         retain(f({2, 3, 5}), i({3, 1}), b({3}), 1);
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [2, 3, 5], [3] and [4] bool",
       [&] {
         retain(f({2, 3, 5}), i({3}), b({4}), 1);
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [2, 3, 5], [3] and [3, 1] bool",
       [&] {
         retain(f({2, 3, 5}), i({3}), b({3, 1}), 1);
       }},
      {"subset_retention: with probs [3, 2], expert_log_probs must be [E, N, C], labels [N] and "
       "mask [N] bool; got [2, 3, 5], [3] and [3] float",
       [&] {
         retain(f({2, 3, 5}), i({3}), f({3}), 1);
       }},
      {"subset_retention: keep must be 1..2; got 0",
       [&] {
         retain(f({2, 3, 5}), i({3}), b({3}), 0);
       }},
      {"subset_retention: keep must be 1..2; got 3",
       [&] {
         retain(f({2, 3, 5}), i({3}), b({3}), 3);
       }},
      {"weight_cosine: weights must be [E, ...]; got [3]", [&] { weight_cosine(f({3})); }},
      {"output_cosine: outputs must be [E, N, O]; got [3, 2]",
       [&] {
         output_cosine(f({3, 2}));
       }},
      {"linear_cka: outputs must be [E, N, O] with O >= 1; got [3, 2]",
       [&] {
         linear_cka(f({3, 2}), CkaEstimator::kBiased);
       }},
      {"linear_cka: outputs must be [E, N, O] with O >= 1; got [3, 2, 0]",
       [&] {
         linear_cka(f({3, 2, 0}), CkaEstimator::kBiased);
       }},
      {"linear_cka_baseline: outputs must be [E, N, O]; got [3, 2]",
       [&] {
         linear_cka_baseline(f({3, 2}), CkaEstimator::kBiased, generator);
       }},
      {"mean_off_diagonal: the table must be [E, E]; got [3, 2]",
       [&] {
         mean_off_diagonal(f({3, 2}));
       }},
      {"mean_off_diagonal: the table must be [E, E]; got [3]", [&] { mean_off_diagonal(f({3})); }},
      {"make_layer_trace: moe: expert_index must be [N, K] and probs [N, E]; got [3, 1] and [2, 2]",
       [&] {
         make_layer_trace("moe", i({3, 1}), f({2, 2}));
       }},
      {"make_layer_trace: moe: expert_index must be [N, K] and probs [N, E]; got [3] and [3, 2]",
       [&] {
         make_layer_trace("moe", i({3}), f({3, 2}));
       }},
      {"write_trace: layer name \"\" is empty or has a comma",
       [&] {
         write_trace("/nowhere/x", {{{"", i({1}), i({1}), f({1, 1})}}, {}, {}});
       }},
      {"write_trace: layer name \"a,b\" is empty or has a comma",
       [&] {
         write_trace("/nowhere/x", {{{"a,b", i({1}), i({1}), f({1, 1})}}, {}, {}});
       }},
      {"specialization of layer moe: labels.label must be [3]; got [2]",
       [&] {
         specialization_summary({"moe", i({3}), i({3}), torch::full({3, 2}, 0.5)},
                                {{}, {{"label", i({2})}}, {}}, 4, true);
       }},
      {"encoder: merge_cost must be a finite number from 0; got -1",
       [&] { merged_encoder_operations(shape, 1, -1); }},
      {"encoder: merge_cost must be a finite number from 0; got inf",
       [&] { merged_encoder_operations(shape, 1, INFINITY); }},
      {"accuracy matrix: 1 rows of 2 tasks",
       [&] {
         check_matrix(matrix({0, 0}, {{0, 0}}));
       }},
      {"accuracy matrix: 0 rows of 0 tasks", [&] { check_matrix({}); }},
      {"accuracy matrix: row 1 has 1 accuracies of 2 tasks",
       [&] {
         check_matrix(matrix({0, 0}, {{0, 0}, {0}}));
       }},
      {"accuracy matrix: the row before any task, task 1 is nan",
       [&] {
         check_matrix(matrix({0, std::nan("")}, {{0, 0}, {0, 0}}));
       }},
      {"accuracy matrix: row 0, task 1 is inf",
       [&] {
         check_matrix(matrix({0, 0}, {{0, INFINITY}, {0, 0}}));
       }},
      {"transfer is not defined for one task", [&] { transfer(one); }},
      {"backward transfer is not defined for one task", [&] { backward_transfer(one); }},
      {"forward transfer is not defined for one task", [&] { forward_transfer(one); }},
      {"forgetting is not defined for one task", [&] { forgetting(one); }},
  };
  for (const auto& [message, call] : calls) EXPECT_EQ(moekit::refusal(call), message);
}

}  // namespace
}  // namespace moekit::metrics
