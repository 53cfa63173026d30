#include "moekit/tasks/soft_routed/config.h"

namespace moekit::soft_routed {
namespace {

constexpr double kMostSteps = 1e12;  // far beyond any run, and a whole number in a double

}  // namespace

void validate(const Config& c) {
  check_values(c, "");
  MOEKIT_CHECK(2 * c.teacher_pairs <= c.dim, "teacher_pairs must be 1..dim/2 = 1..", c.dim / 2,
               "; got ", c.teacher_pairs);
  MOEKIT_CHECK(c.init == StudentInit::kRandom ||
                   (c.student_pairs == c.teacher_pairs && 2 * c.teacher_pairs < c.dim),
               "init = \"overlap\" wants student_pairs = teacher_pairs < dim/2; got ",
               c.student_pairs, ", ", c.teacher_pairs, " and dim ", c.dim);
  MOEKIT_CHECK(c.time / c.step <= kMostSteps && c.record_every / c.step <= kMostSteps,
               "time / step and record_every / step must be at most ", kMostSteps, "; got ",
               c.time / c.step, " and ", c.record_every / c.step);
  MOEKIT_CHECK(c.record_every >= c.step, "record_every must be at least step = ", c.step, "; got ",
               c.record_every);
}

}  // namespace moekit::soft_routed
