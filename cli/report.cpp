#include <fmt/format.h>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/core/files.h"
#include "moekit/run/report.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {

int run(const ReportFlags& flags) {
  const std::vector<std::filesystem::path> runs(flags.runs.begin(), flags.runs.end());
  for (const auto& run : runs) note_unchecked(run);
  const auto page = run::make_report(run::group_by_recipe(runs), &tasks::of_run, flags.data);
  write_file_atomic(flags.output, report::render(page));
  fmt::print("{}\n", std::filesystem::absolute(flags.output).string());
  return 0;
}

}  // namespace moekit::cli
