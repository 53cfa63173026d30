#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace {

struct EvalFlags {
  std::string run;
  std::string data;
  bool json = false;
};

void run(const EvalFlags& flags) {
  const Json summary = tasks::of_run(flags.run).evaluate(flags.run, flags.data);
  if (flags.json) {
    fmt::print("{}\n", summary.dump(2));
  } else {
    print_summary(summary);
  }
}

}  // namespace

void setup_eval(CLI::App& app, int& /*exit_code*/) {
  auto flags = std::make_shared<EvalFlags>();
  auto* command = app.add_subcommand("eval", "Judge a trained model on its test images");
  command->add_option("run", flags->run, "Run folder")->required();
  command->add_option("--data", flags->data, "Folder of data sets");
  command->add_flag("--json", flags->json, "Print as JSON");
  command->callback([flags] { run(*flags); });
}

}  // namespace moekit::cli
