#include "moekit/tasks/soft_routed/config.h"

namespace moekit::soft_routed {
namespace {

constexpr double kMostSteps = 1e12;  // far beyond any run, and a whole number in a double

}  // namespace

void validate(const Config& c) {
  MOEKIT_CHECK(c.teacher_pairs >= 1 && 2 * c.teacher_pairs <= c.dim,
               "teacher_pairs must be 1..dim/2 = 1..", c.dim / 2, "; got ", c.teacher_pairs);
  MOEKIT_CHECK(c.student_pairs >= 1, "student_pairs must be at least 1; got ", c.student_pairs);
  MOEKIT_CHECK(c.init == StudentInit::kRandom ||
                   (c.student_pairs == c.teacher_pairs && 2 * c.teacher_pairs < c.dim),
               "init = \"overlap\" wants student_pairs = teacher_pairs < dim/2; got ",
               c.student_pairs, ", ", c.teacher_pairs, " and dim ", c.dim);
  MOEKIT_CHECK(c.step > 0 && c.time >= 0 && c.record_every > 0,
               "step and record_every must be positive, time at least 0; got ", c.step, ", ",
               c.record_every, " and ", c.time);
  MOEKIT_CHECK(c.time / c.step <= kMostSteps && c.record_every / c.step <= kMostSteps,
               "time / step and record_every / step must be at most ", kMostSteps, "; got ",
               c.time / c.step, " and ", c.record_every / c.step);
  MOEKIT_CHECK(c.batch_size >= 1 && c.test_samples >= 1 && c.fine_tune_steps >= 0 &&
                   c.threads >= 1 && c.seed >= 0,
               "batch_size, test_samples and threads must be at least 1, fine_tune_steps and seed "
               "at least 0; got ",
               c.batch_size, ", ", c.test_samples, ", ", c.threads, ", ", c.fine_tune_steps, ", ",
               c.seed);
}

}  // namespace moekit::soft_routed
