#include <fmt/format.h>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {

int run(const EvalFlags& flags) {
  note_unchecked(flags.run);
  const Json summary = tasks::of_run(flags.run).evaluate(flags.run, flags.data);
  if (flags.json) {
    fmt::print("{}\n", dump_text(summary, 2));
  } else {
    print_summary(summary);
  }
  return 0;
}

}  // namespace moekit::cli
