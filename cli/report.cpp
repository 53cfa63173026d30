#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/tasks.h"
#include "moekit/core/files.h"

namespace moekit::cli {
namespace {

struct ReportFlags {
  std::vector<std::string> runs;
  std::string data;
  std::string output = "report.html";
};

void run(const ReportFlags& flags) {
  const std::vector<std::filesystem::path> runs(flags.runs.begin(), flags.runs.end());
  const auto page = train::make_report(train::group_by_recipe(runs), section_maker(flags.data));
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
