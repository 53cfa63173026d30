#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cli/command.h"
#include "cli/guard.h"
#include "cli/print.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/words.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

void list_keys(bool markdown) {
  if (markdown) {
    fmt::print(
        "# Keys of recipes\n\nWritten by `moekit train --list-keys --markdown`, out of the tables "
        "of "
        "kinds. The last column says which kinds have a key; empty: it is always there. Keys "
        "marked "
        "\"may change\" can be another when a run goes on by `--resume`; all others have to "
        "stay.\n");
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

/// Of a run that is to be extended: refuses another value of a key that has to stay, by name and
/// with both. The recipe check could not: another kind has other keys than the run's own
/// config.toml.
void refuse_fixed_changes(const TrainFlags& flags) {
  if (!flags.resume || !flags.recipe.empty() || flags.set.empty()) return;
  const Json before = read_toml(fs::path(flags.out) / "config.toml").values;
  const auto keys = tasks::of_run(flags.out).keys();
  Json now = before;
  for (const auto& key : keys) {
    std::string pointer = "/" + key.path;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    const Json::json_pointer at(pointer);
    if (before.contains(at) && flags.tree.values.contains(at)) now[at] = flags.tree.values[at];
  }
  const std::string refused = changes_refused(before, now, keys);
  MOEKIT_CHECK(refused.empty(), flags.out,
               " was made by another recipe; --resume wants the same:\n", refused);
}

/// A path as a word of the command that a user may copy; one in front of which a dash stands would
/// be a flag.
std::string path_word(const std::string& path) {
  return shell_quoted(path.rfind('-', 0) == 0 ? "./" + path : path);
}

}  // namespace

int run(const TrainFlags& flags) {
  if (flags.list_keys) {
    list_keys(flags.markdown);
    return 0;
  }
  refuse_fixed_changes(flags);
  const ConfigTree& recipe = flags.tree;
  const run::Task& task = tasks::check_recipe(recipe);
  fs::path out = flags.out;
  if (out.empty()) {
    const auto seed = recipe.values.value("seed", Json(1)).dump();
    // A pipe's name, /dev/fd/63, says nothing.
    const bool file = fs::is_regular_file(flags.recipe);
    const std::string name = file ? fs::path(flags.recipe).stem().string() : "recipe";
    out = fs::path("runs") / fmt::format("{}-seed{}", name, seed);
  }
  const InterruptGuard guard;
  run::RunOptions options{out, flags.data, flags.resume, flags.quiet, flags.status};
  // A recipe beside --resume has to be the run's own, so that the runs of a study stay what the
  // study says.
  options.extend = flags.resume && flags.recipe.empty();
  options.notice = [](const std::string& text) {
    // On a terminal a line of progress may stand there.
    fmt::print(stderr, "{}moekit: {}\n", ::isatty(STDERR_FILENO) == 1 ? "\r\033[K" : "", text);
  };
  const auto status = locate_errors(recipe, [&] { return task.run(recipe, options); });
  if (status == run::RunStatus::kInterrupted) {
    fmt::print(stderr, "stopped; go on with: moekit train --resume --out {}{}\n",
               path_word(out.string()),
               flags.data.empty() ? "" : " --data " + path_word(flags.data));
    return kInterruptedExit;
  }
  const Json summary = run::read_summary(out);
  if (flags.json) {
    fmt::print("{}\n", dump_text(summary, 2));
  } else {
    print_summary(summary);
    fmt::print("{}\n", out.string());
  }
  return 0;
}

}  // namespace moekit::cli
