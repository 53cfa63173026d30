#include "moekit/metrics/continual.h"

#include <gtest/gtest.h>

#include <limits>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

/// ZSCL on eleven data sets in alphabetical order: the result arrays of its authors' repository
/// (Zheng et al. 2023), rounded as in their table, with their zero-shot row.
AccuracyMatrix zscl() {
  return {{{55.12, 86.00, 66.33, 44.89, 49.24, 70.56, 88.34, 53.58, 87.38, 61.30, 65.68},
           {48.87, 94.18, 68.55, 44.68, 50.44, 66.97, 87.63, 55.19, 85.01, 61.01, 65.94},
           {47.13, 93.15, 86.20, 46.49, 50.13, 68.84, 87.70, 63.43, 87.60, 60.56, 67.45},
           {47.01, 93.84, 84.99, 76.17, 51.74, 69.95, 87.77, 65.87, 88.39, 61.21, 67.15},
           {46.14, 92.80, 83.97, 75.00, 97.76, 69.08, 87.15, 67.56, 87.98, 60.30, 67.09},
           {43.77, 92.51, 83.21, 73.46, 97.24, 96.34, 87.10, 63.30, 86.48, 58.84, 66.85},
           {44.34, 92.22, 82.89, 71.22, 96.78, 93.76, 92.20, 63.47, 87.27, 60.27, 67.91},
           {41.94, 91.94, 80.48, 67.82, 95.30, 89.51, 91.86, 99.01, 84.38, 58.40, 66.47},
           {41.61, 91.82, 81.32, 68.19, 95.67, 90.73, 91.98, 98.84, 95.28, 58.87, 66.43},
           {39.78, 91.88, 81.82, 68.88, 95.70, 91.62, 91.84, 98.76, 94.47, 85.85, 67.33},
           {40.62, 92.17, 81.29, 70.53, 94.76, 90.49, 91.89, 98.71, 93.87, 85.30, 80.22}},
          {24.3, 88.4, 68.2, 44.6, 54.9, 71.0, 88.5, 59.4, 89.0, 64.7, 65.2}};
}

/// Falls, then rises above what it was when the first task was learnt.
AccuracyMatrix rising() { return {{{50, 10, 20}, {40, 60, 30}, {70, 65, 80}}, {55, 5, 10}}; }

TEST(Continual, GivesThePublishedFiguresOfZscl) {
  const auto a = zscl();
  EXPECT_NEAR(transfer(a), 68.14, 0.005);
  EXPECT_NEAR(average(a), 75.38, 0.005);
  EXPECT_NEAR(last(a), 83.62, 0.005);
  EXPECT_NEAR(backward_transfer(a), -3.848, 0.0005);
  EXPECT_NEAR(backward_transfer(a, Denominator::kTasks), -3.498, 0.0005);
  EXPECT_NEAR(forgetting(a), 3.848, 0.0005);
  EXPECT_NEAR(forgetting(a, BestOf::kAll), 3.848, 0.0005);
  EXPECT_NEAR(forward_transfer(a), -1.089, 0.0005);
  EXPECT_NEAR(forward_transfer(a, Denominator::kTasks), -1.089 * 10 / 11, 0.0005);
}

TEST(Continual, WorkedByHand) {
  const auto a = rising();
  EXPECT_DOUBLE_EQ(transfer(a), (10 + (20 + 30) / 2.0) / 2);  // of means: the triangle's is 20
  EXPECT_DOUBLE_EQ(average(a), (80 + 130 + 215) / 9.0);
  EXPECT_DOUBLE_EQ(last(a), 215 / 3.0);
  EXPECT_DOUBLE_EQ(backward_transfer(a), (20 + 5) / 2.0);
  EXPECT_DOUBLE_EQ(backward_transfer(a, Denominator::kTasks), 25 / 3.0);
  EXPECT_DOUBLE_EQ(forward_transfer(a), ((10 - 5) + (30 - 10)) / 2.0);
  EXPECT_DOUBLE_EQ(forgetting(a), ((50 - 70) + (60 - 65)) / 2.0);
  EXPECT_DOUBLE_EQ(forgetting(a, BestOf::kSinceLearnt, Denominator::kTasks), -25 / 3.0);
  EXPECT_DOUBLE_EQ(forgetting(a, BestOf::kAll), 0);
  auto known_before = rising();
  known_before.rows[0][1] = 90;  // better before the task was learnt than ever since
  EXPECT_DOUBLE_EQ(forgetting(known_before, BestOf::kAll), (0 + 25) / 2.0);
  EXPECT_DOUBLE_EQ(forgetting(known_before), -25 / 2.0);
}

TEST(Continual, RefusesWhatHasNoFigure) {
  const AccuracyMatrix one{{{90}}, {10}};
  EXPECT_DOUBLE_EQ(average(one), 90);
  EXPECT_DOUBLE_EQ(last(one), 90);
  EXPECT_THROW(transfer(one), ArgumentError);
  EXPECT_THROW(backward_transfer(one), ArgumentError);
  EXPECT_THROW(forward_transfer(one), ArgumentError);
  EXPECT_THROW(forgetting(one), ArgumentError);
  auto short_of_a_row = rising();
  short_of_a_row.rows.pop_back();
  EXPECT_THROW(average(short_of_a_row), ArgumentError);
  auto ragged = rising();
  ragged.rows[1].pop_back();
  EXPECT_THROW(last(ragged), ArgumentError);
  auto unknown = rising();
  unknown.rows[2][0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(average(unknown), ArgumentError);
  EXPECT_THROW(average({}), ArgumentError);
}

}  // namespace
}  // namespace moekit::metrics
