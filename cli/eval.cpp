#include <fmt/format.h>

#include <memory>

#include "cli/command.h"
#include "cli/print.h"
#include "cli/tasks.h"
#include "moekit/train/evaluate.h"
#include "moekit/train/run.h"

namespace moekit::cli {
namespace {

struct EvalFlags {
  std::string run;
  std::string data;
  bool json = false;
};

void run(const EvalFlags& flags) {
  MOEKIT_CHECK(&task_of_run(flags.run) == &train::classification_task(), flags.run,
               ": eval judges classifiers; this is a run of task \"", task_of_run(flags.run).name(),
               "\": see moekit inspect");
  const auto config = train::read_run_config(flags.run);
  const auto data = train::load_run_data(config, flags.data);
  const auto model = train::load_model(std::filesystem::path(flags.run) / "model");
  const auto evaluation = train::evaluate(*model, data.test, data.normalization);
  const Json summary = train::evaluation_summary(evaluation, config.model, data.input.num_classes);
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
