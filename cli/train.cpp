#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/core/interrupt.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

struct TrainFlags {
  std::string recipe;
  std::vector<std::string> set;
  std::string data;
  std::string out;
  std::optional<int64_t> seed;
  std::optional<int64_t> threads;
  bool resume = false;
  bool json = false;
  bool quiet = false;
  bool list_keys = false;
  bool markdown = false;
};

void list_keys(bool markdown) {
  if (markdown) {
    fmt::print(
        "# Keys of recipes\n\nWritten by `moekit train --list-keys --markdown`, out of the tables "
        "of "
        "kinds. The last column says which kinds have a key; empty: it is always there.\n");
  }
  for (const auto* task : tasks::all()) {
    if (markdown) {
      fmt::print("\n## task = \"{}\"\n\n", task->name());
      print_keys_markdown(task->keys());
    } else {
      fmt::print("task = \"{}\"\n", task->name());
      print_keys(task->keys());
    }
  }
}

/// The recipe with all overrides.
ConfigTree read_recipe(const TrainFlags& flags) {
  // A finished or interrupted run brings its own recipe: --resume --out RUN is enough.
  const bool own_recipe = flags.recipe.empty();
  MOEKIT_CHECK(!own_recipe || (flags.resume && !flags.out.empty()),
               "train: give a recipe, or --resume with --out RUN");
  ConfigTree tree =
      read_toml(own_recipe ? fs::path(flags.out) / "config.toml" : fs::path(flags.recipe));
  for (const auto& assignment : flags.set) apply_override(tree, assignment);
  if (flags.seed) apply_override(tree, fmt::format("seed={}", *flags.seed));
  if (flags.threads) apply_override(tree, fmt::format("threads={}", *flags.threads));
  return tree;
}

void run(const TrainFlags& flags, int& exit_code) {
  MOEKIT_CHECK(!flags.markdown || flags.list_keys, "train: --markdown goes with --list-keys");
  if (flags.list_keys) return list_keys(flags.markdown);
  const ConfigTree recipe = read_recipe(flags);
  const run::Task& task = tasks::of_recipe(recipe);
  task.check(recipe);
  fs::path out = flags.out;
  if (out.empty()) {
    const auto seed = recipe.values.value("seed", Json(1)).dump();
    out = fs::path("runs") / fmt::format("{}-seed{}", fs::path(flags.recipe).stem().string(), seed);
  }
  const InterruptGuard guard;
  const auto status = task.run(recipe, {out, flags.data, flags.resume, flags.quiet});
  if (status == run::RunStatus::kInterrupted) {
    fmt::print(stderr, "stopped; go on with: moekit train --resume --out {}{}\n", out.string(),
               flags.data.empty() ? "" : " --data " + flags.data);
    exit_code = kInterruptedExit;
    return;
  }
  const Json summary = run::read_summary(out);
  if (flags.json) {
    fmt::print("{}\n", summary.dump(2));
  } else {
    print_summary(summary);
    fmt::print("{}\n", out.string());
  }
}

}  // namespace

void setup_train(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<TrainFlags>();
  auto* command = app.add_subcommand("train", "Train a recipe in a run folder");
  command->add_option("recipe", flags->recipe, "TOML file; see recipes/");
  command->add_option("--set", flags->set, "Override a key: --set train.lr=3e-4");
  command->add_option("--data", flags->data, "Folder of data sets");
  command->add_option("--out", flags->out, "Run folder (default runs/RECIPE-seedN)");
  command->add_option("--seed", flags->seed, "Seed of every random choice");
  command->add_option("--threads", flags->threads, "Threads (default 1: run seeds side by side)");
  command->add_flag("--resume", flags->resume, "Go on with an interrupted run");
  command->add_flag("--json", flags->json, "Print the summary as JSON");
  command->add_flag("--quiet", flags->quiet, "No progress");
  command->add_flag("--list-keys", flags->list_keys, "List every recipe key and its default");
  command->add_flag("--markdown", flags->markdown, "With --list-keys: as a Markdown page");
  command->callback([flags, &exit_code] { run(*flags, exit_code); });
}

}  // namespace moekit::cli
