#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "moekit/core/files.h"
#include "moekit/run/report.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace {

struct ReportFlags {
  std::vector<std::string> runs;
  std::string data;
  std::string output = "report.html";
};

void run(const ReportFlags& flags) {
  const std::vector<std::filesystem::path> runs(flags.runs.begin(), flags.runs.end());
  const auto page = run::make_report(run::group_by_recipe(runs), &tasks::of_run, flags.data);
  write_file_atomic(flags.output, report::render(page));
  fmt::print("{}\n", std::filesystem::absolute(flags.output).string());
}

}  // namespace

void setup_report(CLI::App& app, int& /*exit_code*/) {
  auto flags = std::make_shared<ReportFlags>();
  auto* command = app.add_subcommand("report", "Write one HTML page over finished runs");
  command->add_option("runs", flags->runs, "Run folders")->required();
  command->add_option("-o,--output", flags->output, "The page (default report.html)");
  command->add_option("--data", flags->data, "Folder of data sets");
  command->callback([flags] { run(*flags); });
}

}  // namespace moekit::cli
