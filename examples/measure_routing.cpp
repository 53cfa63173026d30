// Do the experts of a routing specialise? Measured on a hand-made one, with its random baseline.
#include <fmt/format.h>

#include "moekit/metrics/information.h"
#include "moekit/metrics/load.h"
#include "moekit/metrics/routing_metrics.h"

using namespace moekit::metrics;

int main() {
  torch::manual_seed(1);
  const int64_t tokens = 1000;
  const auto label = torch::randint(4, {tokens}, torch::kLong);
  // The router likes expert `label`, with noise.
  const auto logits = 3 * torch::one_hot(label, 4).to(torch::kFloat32) + torch::randn({tokens, 4});
  const auto probs = torch::softmax(logits, 1);
  const auto table = label_expert_counts(label, probs.argmax(1), 4, 4);
  const auto alignment = label_alignment(table);
  fmt::print("I(E;L) {:.2f} bit (random {:.3f}), purity {:.2f}, matching {:.2f}\n",
             alignment.mutual_information, mutual_information_baseline(table), purity(table),
             best_matching(table));
  fmt::print("H_s {:.2f} bit, usage {:.2f} bit\n", sample_entropy(probs),
             load_stats(probs.sum(0)).entropy_bits);
  if (alignment.mutual_information > 1) fmt::print("example: ok\n");
}
