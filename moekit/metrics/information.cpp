#include "moekit/metrics/information.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/metrics/checks.h"

namespace moekit::metrics {
namespace {

double per_base(double nats, LogBase base) {
  return base == LogBase::kBits ? nats / std::log(2.0) : nats;
}

constexpr int64_t kMostCells = int64_t{1} << 26;

void check_table_size(const char* who, int64_t num_labels, int64_t num_experts) {
  MOEKIT_CHECK(num_labels >= 0 && num_experts >= 0 &&
                   (num_experts == 0 || num_labels <= kMostCells / num_experts),
               who, ": a table of ", num_labels, " labels and ", num_experts,
               " experts; at most 2^26 cells are counted");
}

double entropy_nats(const torch::Tensor& weights) {
  check_numbers("entropy", "weights", weights, 0);
  const auto w = weights.to(torch::kFloat64).reshape({-1});
  const double total = w.numel() > 0 ? w.sum().item<double>() : 0;
  if (!(total > 0)) return 0;
  const auto p = w / total;
  return -torch::xlogy(p, p).sum().item<double>();
}

torch::Tensor checked_table(const torch::Tensor& table) {
  MOEKIT_CHECK(table.dim() == 2, "metrics: the table must be [labels, experts]; got ",
               table.sizes());
  check_numbers("metrics", "the table of labels and experts", table, 0);
  return table.to(torch::kFloat64);
}

}  // namespace

double entropy(const torch::Tensor& weights, LogBase base) {
  return per_base(entropy_nats(weights), base);
}

LabelAlignment label_alignment(const torch::Tensor& table_in, LogBase base) {
  const auto table = checked_table(table_in);
  const double joint = entropy(table, base);
  LabelAlignment out{};
  out.expert_entropy = entropy(table.sum(0), base);
  out.label_entropy = entropy(table.sum(1), base);
  // Rounding may leave -1e-16 where the exact value is 0.
  out.label_given_expert = std::max(0.0, joint - out.expert_entropy);
  out.expert_given_label = std::max(0.0, joint - out.label_entropy);
  out.mutual_information = std::max(0.0, out.expert_entropy + out.label_entropy - joint);
  const double most = std::min(out.expert_entropy, out.label_entropy);
  out.normalized = most > 0 ? std::min(1.0, out.mutual_information / most) : 0;
  return out;
}

torch::Tensor label_expert_counts(const torch::Tensor& labels, const torch::Tensor& expert_index,
                                  int64_t num_labels, int64_t num_experts) {
  const auto index = expert_index.dim() == 1 ? expert_index.unsqueeze(1) : expert_index;
  MOEKIT_CHECK(labels.dim() == 1 && index.dim() == 2 && index.size(0) == labels.size(0),
               "label_expert_counts: labels must be [N] and expert_index [N, K]; got ",
               labels.sizes(), " and ", expert_index.sizes());
  check_table_size("label_expert_counts", num_labels, num_experts);
  check_ids("label_expert_counts", "labels", labels, num_labels);
  check_ids("label_expert_counts", "expert_index", index, num_experts);
  const auto cell = (labels.unsqueeze(1) * num_experts + index).reshape({-1});
  return torch::bincount(cell, {}, num_labels * num_experts)
      .to(torch::kFloat64)
      .reshape({num_labels, num_experts});
}

torch::Tensor label_expert_mass(const torch::Tensor& labels, const torch::Tensor& probs,
                                int64_t num_labels) {
  MOEKIT_CHECK(labels.dim() == 1 && probs.dim() == 2 && probs.size(0) == labels.size(0),
               "label_expert_mass: labels must be [N] and probs [N, E]; got ", labels.sizes(),
               " and ", probs.sizes());
  check_table_size("label_expert_mass", num_labels, probs.size(1));
  check_ids("label_expert_mass", "labels", labels, num_labels);
  check_numbers("label_expert_mass", "probs", probs, 0);
  return torch::zeros({num_labels, probs.size(1)}, torch::kFloat64)
      .index_add(0, labels, probs.detach().to(torch::kFloat64));
}

double mutual_information_baseline(const torch::Tensor& table_in, LogBase base) {
  const auto table = checked_table(table_in);
  const double total = table.sum().item<double>();
  if (!(total > 0)) return 0;
  const auto labels = (table.sum(1) > 0).sum().item<double>();
  const auto experts = (table.sum(0) > 0).sum().item<double>();
  return per_base((labels - 1) * (experts - 1) / (2 * total), base);
}

double purity(const torch::Tensor& table_in) {
  const auto table = checked_table(table_in);
  const double total = table.sum().item<double>();
  if (!(total > 0)) return 0;
  return std::get<0>(table.max(0)).sum().item<double>() / total;
}

double purity_baseline(const torch::Tensor& table_in) {
  const auto table = checked_table(table_in);
  const double total = table.sum().item<double>();
  if (!(total > 0)) return 0;
  return table.sum(1).max().item<double>() / total;
}

double best_matching(const torch::Tensor& table_in) {
  auto table = checked_table(table_in);
  const double total = table.sum().item<double>();
  if (!(total > 0)) return 0;
  if (table.size(0) > table.size(1)) table = table.t();
  table = table.contiguous();
  const auto gain = table.accessor<double, 2>();
  const auto rows = static_cast<size_t>(table.size(0));
  const auto columns = static_cast<size_t>(table.size(1));
  // Shortest augmenting paths with potentials, on costs = -gain; index 0 stands for "none".
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<double> row_potential(rows + 1, 0);
  std::vector<double> column_potential(columns + 1, 0);
  std::vector<size_t> row_of(columns + 1, 0);
  for (size_t row = 1; row <= rows; ++row) {
    std::vector<double> distance(columns + 1, kInfinity);
    std::vector<size_t> previous(columns + 1, 0);
    std::vector<bool> done(columns + 1, false);
    row_of[0] = row;
    size_t column = 0;
    while (row_of[column] != 0) {
      done[column] = true;
      const size_t at = row_of[column];
      double least = kInfinity;
      size_t next = 0;
      for (size_t c = 1; c <= columns; ++c) {
        if (done[c]) continue;
        const double cost = -gain[static_cast<int64_t>(at) - 1][static_cast<int64_t>(c) - 1] -
                            row_potential[at] - column_potential[c];
        if (cost < distance[c]) {
          distance[c] = cost;
          previous[c] = column;
        }
        if (distance[c] < least) {
          least = distance[c];
          next = c;
        }
      }
      for (size_t c = 0; c <= columns; ++c) {
        if (done[c]) {
          row_potential[row_of[c]] += least;
          column_potential[c] -= least;
        } else {
          distance[c] -= least;
        }
      }
      column = next;
    }
    for (; column != 0; column = previous[column]) row_of[column] = row_of[previous[column]];
  }
  double matched = 0;
  for (size_t c = 1; c <= columns; ++c) {
    if (row_of[c] != 0) {
      matched += gain[static_cast<int64_t>(row_of[c]) - 1][static_cast<int64_t>(c) - 1];
    }
  }
  return matched / total;
}

}  // namespace moekit::metrics
