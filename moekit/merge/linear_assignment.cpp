#include "moekit/merge/linear_assignment.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "moekit/core/error.h"

namespace moekit::merge {
namespace {

constexpr std::int64_t kNone = -1;
constexpr double kFar = std::numeric_limits<double>::infinity();

/// Rows and columns with their prices: cost - row price - column price is never negative, and zero
/// where a row has its column.
class Assignment {
 public:
  Assignment(const float* cost, std::int64_t n)
      : cost_(cost),
        n_(n),
        row_price_(size(n)),
        column_price_(size(n), kFar),
        column_of_(size(n), kNone),
        row_of_(size(n), kNone),
        distance_(size(n)),
        from_(size(n)),
        left_(size(n)) {}

  /// Prices by the least cost of every column, then of every row, which takes the column that gave
  /// it if that is free.
  void start() {
    for (std::int64_t i = 0; i < n_; ++i) {
      for (std::int64_t j = 0; j < n_; ++j) {
        column_price_[size(j)] = std::min(column_price_[size(j)], double{cost(i, j)});
      }
    }
    for (std::int64_t i = 0; i < n_; ++i) {
      std::int64_t best = 0;
      double least = kFar;
      for (std::int64_t j = 0; j < n_; ++j) {
        const double reduced = cost(i, j) - column_price_[size(j)];
        const bool freer =
            reduced == least && row_of_[size(best)] != kNone && row_of_[size(j)] == kNone;
        if (reduced < least || freer) {
          least = reduced;
          best = j;
        }
      }
      row_price_[size(i)] = least;
      if (row_of_[size(best)] == kNone) join(i, best);
    }
  }

  /// Finds the shortest way from a free row to a free column, by Dijkstra's algorithm over
  /// alternating assigned and other pairs, and exchanges the pairs on it.
  void augment(std::int64_t start) {
    std::fill(distance_.begin(), distance_.end(), kFar);
    for (std::int64_t j = 0; j < n_; ++j) left_[size(j)] = j;
    std::int64_t remaining = n_;
    std::vector<std::int64_t> reached;  // columns whose distance is settled, assigned ones
    double shortest = 0;
    std::int64_t row = start;
    std::int64_t end = kNone;
    while (end == kNone) {
      const std::int64_t at = scan(row, shortest, remaining);
      const std::int64_t column = left_[size(at)];
      shortest = distance_[size(column)];
      left_[size(at)] = left_[size(--remaining)];
      if (row_of_[size(column)] == kNone) {
        end = column;
      } else {
        reached.push_back(column);
        row = row_of_[size(column)];
      }
    }
    // Prices, so that the pairs on the way cost nothing.
    row_price_[size(start)] += shortest;
    for (const std::int64_t column : reached) {
      const double gain = shortest - distance_[size(column)];
      column_price_[size(column)] -= gain;
      row_price_[size(row_of_[size(column)])] += gain;
    }
    for (std::int64_t column = end; column != kNone;) {
      const std::int64_t of = from_[size(column)];
      const std::int64_t before = column_of_[size(of)];
      join(of, column);
      column = of == start ? kNone : before;
    }
  }

  bool is_free(std::int64_t row) const { return column_of_[size(row)] == kNone; }
  std::vector<std::int64_t> columns() && { return std::move(column_of_); }

 private:
  static std::size_t size(std::int64_t i) { return static_cast<std::size_t>(i); }
  float cost(std::int64_t i, std::int64_t j) const { return cost_[i * n_ + j]; }
  void join(std::int64_t row, std::int64_t column) {
    column_of_[size(row)] = column;
    row_of_[size(column)] = row;
  }

  /// Brings the distances of the columns that are left up to date by way of `row`, at `shortest`.
  /// @return where the nearest of them stands in the list; of equally near ones a free one
  std::int64_t scan(std::int64_t row, double shortest, std::int64_t remaining) {
    const float* costs = cost_ + row * n_;
    const double base = shortest - row_price_[size(row)];
    std::int64_t nearest = 0;
    double least = kFar;
    for (std::int64_t k = 0; k < remaining; ++k) {
      const std::size_t j = size(left_[size(k)]);
      const double way = base + costs[j] - column_price_[j];
      if (way < distance_[j]) {
        distance_[j] = way;
        from_[j] = row;
      }
      if (distance_[j] < least || (distance_[j] == least && row_of_[j] == kNone)) {
        least = distance_[j];
        nearest = k;
      }
    }
    return nearest;
  }

  const float* cost_;
  std::int64_t n_;
  std::vector<double> row_price_, column_price_;
  std::vector<std::int64_t> column_of_, row_of_;
  std::vector<double> distance_;    ///< of a column from the row that is being placed
  std::vector<std::int64_t> from_;  ///< the row before a column on its shortest way
  std::vector<std::int64_t> left_;  ///< columns whose distance may still fall
};

}  // namespace

std::vector<std::int64_t> assign(const float* cost, std::int64_t n) {
  for (std::int64_t i = 0; i < n * n; ++i) {
    MOEKIT_CHECK(std::isfinite(cost[i]), "assign: cost of row ", i / n, ", column ", i % n, " is ",
                 cost[i]);
  }
  Assignment assignment(cost, n);
  assignment.start();
  for (std::int64_t row = 0; row < n; ++row) {
    if (assignment.is_free(row)) assignment.augment(row);
  }
  return std::move(assignment).columns();
}

}  // namespace moekit::merge
