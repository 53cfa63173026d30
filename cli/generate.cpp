#include <fmt/format.h>

#include <cstdio>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/models/loaded_model.h"
#include "moekit/models/model_run.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {

int run(const GenerateFlags& flags) {
  const bool published = models::is_published_model(flags.run);
  if (!published) note_unchecked(flags.run);
  bool begun = false;
  const auto write = [&](std::string_view piece) {
    if (flags.json) return;
    // Not before the model is there and takes it.
    if (!begun) fmt::print("{}", flags.options.prompt);
    begun = true;
    fmt::print("{}", piece);
    std::fflush(stdout);  // as it comes
  };
  const Json made =
      published ? models::run_model(flags.run, flags.options, flags.weights, write)
                : tasks::of_run(flags.run).generate(flags.run, flags.options, flags.weights, write);
  if (flags.json) {
    fmt::print("{}\n", dump_text(made, 2));
  } else {
    write("");  // where nothing came
    fmt::print("\n");
  }
  return 0;
}

}  // namespace moekit::cli
