#pragma once

#include <string>
#include <vector>

/// Figures of learning task after task. All come from one matrix: the accuracy on every task after
/// each has been learnt.
namespace moekit::metrics {

/// Which T a mean over the tasks divides by.
enum class Denominator {
  kTasksLessOne,  ///< T - 1: the tasks that the figure is of
  kTasks,         ///< T, as released code does, whose first or last task counts as a zero
};

/// Accuracies, of any unit. T tasks.
struct AccuracyMatrix {
  /// rows[i][j]: on the test set of task j after learning task i; T x T.
  std::vector<std::vector<double>> rows;
  /// [T], of the model that has learnt none of them.
  std::vector<double> before;
};

/// @throws ArgumentError for a matrix that is not square, a row or `before` of another length, a
///         value that is NaN or infinite, naming row and task
void check_matrix(const AccuracyMatrix& accuracy);

/// Mean over tasks 1..T-1 of the mean accuracy on a task before it is learnt (a mean of means, not
/// over the triangle). Source: Zheng et al. 2023, arXiv:2303.06628, Transfer.
/// @throws ArgumentError for T = 1, where it is not defined; so do the others but average and last
double transfer(const AccuracyMatrix& accuracy);
/// Mean over tasks of the mean over all rows. Same source, Avg.
double average(const AccuracyMatrix& accuracy);
/// Mean of the last row. Same source, Last; Lopez-Paz & Ranzato 2017, arXiv:1706.08840, ACC.
double last(const AccuracyMatrix& accuracy);
/// Mean over tasks 0..T-2 of what accuracy changed by from learning a task to the end. Source:
/// Lopez-Paz & Ranzato 2017, eq. 3; their released code divides by T.
double backward_transfer(const AccuracyMatrix& accuracy,
                         Denominator denominator = Denominator::kTasksLessOne);
/// Mean over tasks 1..T-1 of how much better a task is known right before it is learnt than by the
/// model that has learnt none. Source: Lopez-Paz & Ranzato 2017, eq. 4; their code divides by T.
double forward_transfer(const AccuracyMatrix& accuracy,
                        Denominator denominator = Denominator::kTasksLessOne);

/// After which tasks the best accuracy is looked for.
enum class BestOf {
  kSinceLearnt,  ///< from learning the task to the one before the last: may be negative
  kAll,          ///< all, before it is learnt and the last included: never negative
};
/// Mean over tasks 0..T-2 of the best accuracy less the last one. Source: Chaudhry et al. 2018,
/// arXiv:1801.10112, eq. 3 (kSinceLearnt); kAll is that of the Mammoth library.
double forgetting(const AccuracyMatrix& accuracy, BestOf best = BestOf::kSinceLearnt,
                  Denominator denominator = Denominator::kTasksLessOne);

}  // namespace moekit::metrics
