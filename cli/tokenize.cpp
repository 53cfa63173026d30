#include <fmt/format.h>

#include "cli/command.h"
#include "cli/guard.h"
#include "cli/print.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/progress.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {

int run(const TokenizeFlags& flags) {
  const run::Task& task = tasks::of_recipe(flags.tree);
  const InterruptGuard guard;
  std::unique_ptr<Progress> progress;
  Json made;
  locate_errors(
      flags.tree,
      [&] {
        made = task.tokenize(flags.tree, flags.out, [&](int64_t done, int64_t all) {
          if (!progress) progress = std::make_unique<Progress>("tokenize", all / 1024, "KiB");
          progress->update(done / 1024);
          return !interrupted();
        });
      },
      origin_of(flags.tree, ""));
  progress.reset();
  if (flags.json) {
    fmt::print("{}\n", dump_text(made, 2));
  } else {
    for (const auto& [name, facts] : made["domains"].items()) {
      fmt::print("{:20} {:>9} documents {:>11} tokens {:>12} bytes\n", name,
                 facts["documents"].dump(), facts["tokens"].dump(), facts["bytes"].dump());
    }
    fmt::print("{}\n", made["folder"].get<std::string>());
  }
  if (!made["finished"].get<bool>()) {
    fmt::print(stderr, "moekit: stopped; the same command goes on\n");
  }
  return made["finished"].get<bool>() ? 0 : kInterruptedExit;
}

}  // namespace moekit::cli
