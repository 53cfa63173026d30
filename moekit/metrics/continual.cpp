#include "moekit/metrics/continual.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

void check_row(const std::vector<double>& row, size_t tasks, const std::string& where) {
  MOEKIT_CHECK(row.size() == tasks, "accuracy matrix: ", where, " has ", row.size(),
               " accuracies of ", tasks, " tasks");
  for (size_t j = 0; j < tasks; ++j) {
    MOEKIT_CHECK(std::isfinite(row[j]), "accuracy matrix: ", where, ", task ", j, " is ", row[j]);
  }
}

/// The matrix's T. @throws ArgumentError for one task alone
size_t several_tasks(const AccuracyMatrix& accuracy, const char* figure) {
  check_matrix(accuracy);
  MOEKIT_CHECK(accuracy.rows.size() >= 2, figure, " is not defined for one task");
  return accuracy.rows.size();
}

/// Of a sum over T - 1 tasks.
double divide(double sum, size_t tasks, Denominator denominator) {
  return sum / static_cast<double>(denominator == Denominator::kTasks ? tasks : tasks - 1);
}

}  // namespace

void check_matrix(const AccuracyMatrix& accuracy) {
  const size_t tasks = accuracy.before.size();
  MOEKIT_CHECK(tasks >= 1 && accuracy.rows.size() == tasks,
               "accuracy matrix: ", accuracy.rows.size(), " rows of ", tasks, " tasks");
  check_row(accuracy.before, tasks, "the row before any task");
  for (size_t i = 0; i < tasks; ++i) check_row(accuracy.rows[i], tasks, concat("row ", i));
}

double transfer(const AccuracyMatrix& accuracy) {
  const size_t tasks = several_tasks(accuracy, "transfer");
  std::vector<double> of_task;
  for (size_t j = 1; j < tasks; ++j) {
    double sum = 0;
    for (size_t i = 0; i < j; ++i) sum += accuracy.rows[i][j];
    of_task.push_back(sum / static_cast<double>(j));
  }
  return mean(of_task);
}

double average(const AccuracyMatrix& accuracy) {
  check_matrix(accuracy);
  std::vector<double> of_row;
  for (const auto& row : accuracy.rows) of_row.push_back(mean(row));
  return mean(of_row);
}

double last(const AccuracyMatrix& accuracy) {
  check_matrix(accuracy);
  return mean(accuracy.rows.back());
}

double backward_transfer(const AccuracyMatrix& accuracy, Denominator denominator) {
  const size_t tasks = several_tasks(accuracy, "backward transfer");
  double sum = 0;
  for (size_t j = 0; j + 1 < tasks; ++j) sum += accuracy.rows.back()[j] - accuracy.rows[j][j];
  return divide(sum, tasks, denominator);
}

double forward_transfer(const AccuracyMatrix& accuracy, Denominator denominator) {
  const size_t tasks = several_tasks(accuracy, "forward transfer");
  double sum = 0;
  for (size_t j = 1; j < tasks; ++j) sum += accuracy.rows[j - 1][j] - accuracy.before[j];
  return divide(sum, tasks, denominator);
}

double forgetting(const AccuracyMatrix& accuracy, BestOf best, Denominator denominator) {
  const size_t tasks = several_tasks(accuracy, "forgetting");
  double sum = 0;
  for (size_t j = 0; j + 1 < tasks; ++j) {
    const size_t begin = best == BestOf::kAll ? 0 : j;
    const size_t end = best == BestOf::kAll ? tasks : tasks - 1;
    double most = accuracy.rows[begin][j];
    for (size_t i = begin; i < end; ++i) most = std::max(most, accuracy.rows[i][j]);
    sum += most - accuracy.rows.back()[j];
  }
  return divide(sum, tasks, denominator);
}

}  // namespace moekit::metrics
