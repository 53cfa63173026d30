#include "cli/front/checks.h"

#include <fmt/format.h>

#include "cli/front/recipes.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/kernels/common/format_paths.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

/// The recipe with all overrides.
ConfigTree read_recipe(const TrainFlags& flags) {
  // A finished or interrupted run brings its own recipe: --resume --out RUN is enough.
  const bool own_recipe = flags.recipe.empty();
  MOEKIT_CHECK(!own_recipe || (flags.resume && !flags.out.empty()),
               "train: give a recipe, or --resume with --out RUN");
  // A recipe may come through a pipe, a run's own lies in its folder.
  ConfigTree tree = own_recipe ? read_toml(fs::path(flags.out) / "config.toml")
                               : read_toml(flags.recipe, FileKind::kAny);
  for (const auto& assignment : flags.set) {
    for (const auto& [key, given] : {std::pair{"seed", flags.seed}, {"threads", flags.threads}}) {
      MOEKIT_CHECK(!given || assignment.substr(0, assignment.find_first_of(" =")) != key,
                   "train: both --", key, " and --set ", assignment, "; give one");
    }
    apply_override(tree, assignment);
  }
  if (flags.seed) apply_override(tree, fmt::format("seed={}", *flags.seed));
  if (flags.threads) apply_override(tree, fmt::format("threads={}", *flags.threads));
  return tree;
}

/// What computes refuses a MOEKIT_ISA that cannot be, whether its kernels ask for one or not, and
/// tells of instructions that the processor claims to have.
void check_isa() {
  if (kernels::forced_isa()) return;
  for (const auto isa : kernels::known_choice().refused) {
    fmt::print(stderr, "moekit: the processor refuses {}, which it says it has; it is not used\n",
               kernels::isa_name(isa));
  }
}

void check_run(const std::string& folder) {
  std::error_code error;
  if (fs::exists(fs::path(folder) / "config.toml", error)) return;
  throw IoError(error ? concat("cannot read ", folder, ": ", error.message())
                      : concat(folder, ": is no run folder"));
}

void check_exists(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    throw IoError(concat(path, ": there is no such file or folder"));
  }
}

/// A published model has a config.json alone, which the library reads.
void check_run_or_published(const std::string& path) {
  std::error_code error;
  const std::filesystem::path folder = path;
  const bool run = std::filesystem::exists(folder / "config.toml", error);
  if (run || !std::filesystem::exists(folder / "config.json", error)) check_run(path);
}

}  // namespace

void prepare(TrainFlags& flags) {
  MOEKIT_CHECK(!flags.markdown || flags.list_keys, "train: --markdown goes with --list-keys");
  if (flags.list_keys) return;
  check_isa();
  flags.tree = read_recipe(flags);
}

void prepare(EvalFlags& flags) {
  check_isa();
  check_run_or_published(flags.run);
  for (const auto& text : flags.texts) check_exists(text);
}

void prepare(InspectFlags& flags) {
  check_isa();
  check_run(flags.run);
  if (!flags.against.empty()) check_run(flags.against);
}

void prepare(MergeFlags& flags) {
  check_isa();
  check_run(flags.run);
  const std::string fault = NewFolder::why_not(flags.output);
  MOEKIT_CHECK(fault.empty(), "merge: --output ", flags.output, " cannot be made: ", fault);
}

void prepare(GenerateFlags& flags) {
  check_isa();
  check_run_or_published(flags.run);
}

void prepare(DescribeFlags& flags) { check_exists(flags.model); }

void prepare(TraceFlags& flags) {
  check_isa();
  check_exists(flags.model);
  check_exists(flags.ids);
}

void prepare(ReportFlags& flags) {
  check_isa();
  for (const auto& run : flags.runs) check_run(run);
}

void prepare(TokenizeFlags& flags) {
  flags.tree = read_toml(flags.recipe, FileKind::kAny);
  for (const auto& assignment : flags.set) apply_override(flags.tree, assignment);
}

void prepare(ReproduceFlags& flags) {
  check_isa();
  flags.folder = find_study(flags.paper);
}

void prepare(BenchFlags& flags, const std::string& isa) {
  check_isa();
  if (!isa.empty()) flags.options.isa = kernels::parse_isa(isa);
  bench::check_options(flags.options);
}

void prepare(MergedBenchFlags& flags) {
  check_isa();
  bench::check_options(flags.options);
}

void prepare(MergingBenchFlags& flags) {
  check_isa();
  bench::check_options(flags.options);
}

}  // namespace moekit::cli
