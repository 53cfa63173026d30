#include "moekit/run/run_folder.h"

#include <torch/version.h>
#include <unistd.h>

#include <regex>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/machine.h"
#include "moekit/core/schema.h"
#include "moekit/core/version.h"
#include "moekit/events/event_log.h"
#include "moekit/kernels/common/format_paths.h"

namespace moekit::run {
namespace fs = std::filesystem;
namespace {

constexpr const char* kLock = "run.lock";

/// What a run writes into its folder beside checkpoints, each under a temporary name at first.
constexpr const char* kWritten[] = {"config.toml",  "run.json",          "metrics.jsonl",
                                    "summary.json", "trace.safetensors", "model"};

/// Whether a checkpoint has the files that all have.
bool has_all_files(const fs::path& checkpoint) {
  std::error_code error;
  return fs::is_regular_file(checkpoint / "config.json", error) &&
         fs::is_regular_file(checkpoint / "model.safetensors", error) &&
         fs::is_regular_file(checkpoint / "state.json", error);
}

/// Removes what processes that died have left: files and folders under temporary names, and
/// checkpoints before the newest of which a part is gone. Nothing that a run does not write itself:
/// people put things into folders.
void remove_leftovers(const fs::path& folder) {
  std::error_code error;
  for (const std::string name : kWritten) {
    fs::remove_all(folder / (name + ".tmp"), error);
    fs::remove_all(folder / (name + ".old.tmp"), error);
  }
  static const std::regex kTemporary("step-[0-9]{1,18}(\\.old)?\\.tmp");
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints", error)) {
    if (std::regex_match(entry.path().filename().string(), kTemporary)) {
      found.push_back(entry.path());
    }
  }
  for (const auto& path : found) fs::remove_all(path, error);
  const auto checkpoints = list_checkpoints(folder);
  for (const auto& [step, path] : checkpoints) {
    if (step != checkpoints.rbegin()->first && !has_all_files(path)) remove_folder(path);
  }
}

}  // namespace

RunFolder::RunFolder(const fs::path& folder) : folder_(folder) {
  std::error_code error;
  fs::path parent = fs::absolute(folder).lexically_normal();
  if (!parent.has_filename()) parent = parent.parent_path();  // "runs/a/"
  for (; !fs::exists(parent, error) && parent.has_relative_path(); parent = parent.parent_path()) {
    topmost_ = parent;
  }
  create_folders(folder);
  // A finished run on a medium that cannot be written is only looked at.
  const bool finished = fs::exists(folder / "summary.json", error);
  if (finished && ::access(folder.c_str(), W_OK) != 0) {
    fresh_ = false;
    return;
  }
  lock_.emplace(folder / kLock, folder.string());
  fresh_ = !fs::exists(folder / "config.toml", error);
  if (!fresh_) remove_leftovers(folder);
}

RunFolder::~RunFolder() {
  if (!fresh_ || !lock_) return;
  std::error_code ignored;
  for (const char* name : {"config.toml", "run.json", kLock}) fs::remove(folder_ / name, ignored);
  for (const auto& file : events::list_event_files(folder_)) fs::remove(file, ignored);
  if (topmost_.empty()) return;
  fs::path path = fs::absolute(folder_, ignored).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  // Only folders that are empty go.
  while (fs::remove(path, ignored) && path != topmost_) path = path.parent_path();
}

namespace {

/// The processor, and which of its instruction sets the kernels use.
std::string machine_name() {
  return concat(processor_name(), " (", kernels::isa_name(kernels::default_isa()), ")");
}

/// run.json: who made the run, and of what data.
Json read_run_facts(const fs::path& folder) {
  static const Schema kFacts = Schema::object({{"moekit", Schema::text()},
                                               {"data", Schema::text(), false},
                                               {"models", Schema::map(Schema::text()), false}});
  const fs::path file = folder / "run.json";
  Json facts = read_json(file);
  kFacts.check(facts, file.string());
  return facts;
}

/// Whether a run is known to have been trained on other data.
bool has_other_data(const Json& facts, const RunRecipe& recipe) {
  return facts.contains("data") && facts["data"] != recipe.data;
}

/// The key whose run has another model now than when a run started from it; empty where all have
/// the same, or the run does not say.
std::string changed_model(const Json& facts, const RunRecipe& recipe) {
  const Json then = facts.value("models", Json::object());
  for (const auto& [key, sum] : recipe.models) {
    if (then.contains(key) && then[key] != sum) return key;
  }
  return {};
}

/// A checksum in a message.
std::string short_sum(const std::string& sum) { return sum.empty() ? "none" : sum.substr(0, 12); }

/// Holds a recipe against the one that a run was made by.
Claim compare_recipes(const fs::path& file, const RunRecipe& recipe, const RunOptions& options) {
  const ConfigTree tree = read_toml(file);
  // Another task would find the run's keys unknown, and blame its file.
  const Json task_then = tree.values.value("task", Json());
  const Json task_now = recipe.values.value("task", Json());
  MOEKIT_CHECK(task_then == task_now, options.folder.string(),
               " was made by another recipe: task was ", task_then.dump(), ", now ",
               task_now.dump());
  const Json before = recipe.resolve ? recipe.resolve(tree) : tree.values;
  const Json facts = read_run_facts(options.folder);
  MOEKIT_CHECK(!has_other_data(facts, recipe), options.folder.string(),
               " was trained on other data (checksum ", short_sum(facts.value("data", "")),
               ", now ", short_sum(recipe.data), "); --resume wants the same");
  const std::string key = changed_model(facts, recipe);
  MOEKIT_CHECK(key.empty(), options.folder.string(), " started from another model of the run that ",
               key, " names, which was trained again since; --resume wants the same");
  const std::string all = changes_refused(before, recipe.values, {});
  if (all.empty()) return Claim::kSame;
  const std::string refused = changes_refused(before, recipe.values, recipe.keys);
  MOEKIT_CHECK(refused.empty(), options.folder.string(),
               " was made by another recipe; --resume wants the same:\n", refused);
  MOEKIT_CHECK(options.extend, options.folder.string(), " was made by another recipe:\n", all,
               "\nto extend the run, set that without a recipe: moekit train --resume --out ",
               options.folder.string(), " --set KEY=VALUE");
  return Claim::kExtends;
}

}  // namespace

namespace {

/// Whether a run ended before its first checkpoint, as one does whose loss is no number at once.
bool came_to_nothing(const fs::path& folder) {
  std::error_code error;
  for (const char* name : {"summary.json", "model"}) {
    if (fs::exists(folder / name, error)) return false;
  }
  // Without run.json, config.toml may be anything.
  return fs::exists(folder / "run.json", error) && list_checkpoints(folder).empty();
}

/// What such a run has written beside its recipe.
void remove_attempt(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& log : events::list_event_files(folder)) fs::remove(log, ignored);
  fs::remove(folder / "metrics.jsonl", ignored);
  fs::remove(folder / "checkpoints", ignored);
}

}  // namespace

Claim claim_run_folder(const RunRecipe& recipe, int64_t seed, int64_t threads,
                       const RunOptions& options) {
  const fs::path file = options.folder / "config.toml";
  if (fs::exists(file) && !options.resume && came_to_nothing(options.folder)) {
    remove_attempt(options.folder);
    fs::remove(file);
  }
  if (fs::exists(file)) {
    MOEKIT_CHECK(options.resume, options.folder.string(),
                 " holds a run already; give --resume to go on with it, or another --out");
    return compare_recipes(file, recipe, options);
  }
  // What a run of before has left would be taken for this one's.
  for (const char* name : {"checkpoints", "model", "summary.json", "metrics.jsonl"}) {
    std::error_code error;
    MOEKIT_CHECK(!fs::exists(options.folder / name, error), options.folder.string(), " holds ",
                 name, " of a run, but no config.toml; give another --out");
  }
  create_folders(options.folder);
  write_json(options.folder / "run.json", {{"moekit", std::string(version())},
                                           {"libtorch", TORCH_VERSION},
                                           {"machine", machine_name()},
                                           {"data", recipe.data},
                                           {"models", recipe.models},
                                           {"seed", seed},
                                           {"threads", threads}});
  write_file_atomic(file, to_toml(recipe.values));
  return Claim::kNew;
}

void extend_run_folder(const RunRecipe& recipe, const RunOptions& options) {
  // In this order: with an old summary and a new recipe, the run would look as if it were done.
  fs::remove(options.folder / "summary.json");
  write_file_atomic(options.folder / "config.toml", to_toml(recipe.values));
}

std::string why_other_run(const fs::path& folder, const RunRecipe& recipe) {
  const Json facts = read_run_facts(folder);
  if (facts["moekit"] != std::string(version())) {
    return concat("made by moekit ", facts["moekit"].get<std::string>(), ", this is ", version());
  }
  if (facts.contains("made_from")) return "its model was made of another run's, not trained";
  if (!facts.contains("data")) return "does not say of what data it was made";
  if (has_other_data(facts, recipe)) {
    return concat("trained on other data (checksum ", short_sum(facts.value("data", "")), ", now ",
                  short_sum(recipe.data), ")");
  }
  for (const auto& [model, sum] : recipe.models) {
    if (!facts.contains("models") || !facts["models"].contains(model)) {
      return concat("does not say from which model of ", model, " it started");
    }
  }
  if (const std::string key = changed_model(facts, recipe); !key.empty()) {
    return concat("started from another model of the run that ", key, " names");
  }
  const ConfigTree tree = read_toml(folder / "config.toml");
  const Json before = recipe.resolve ? recipe.resolve(tree) : tree.values;
  const std::string all = changes_refused(before, recipe.values, {});
  return all.empty() ? all : "made by another recipe: " + all.substr(0, all.find('\n'));
}

void write_metrics(const fs::path& folder, const std::vector<Json>& metrics) {
  std::string lines;
  for (const auto& line : metrics) lines += line.dump() + "\n";
  write_file_atomic(folder / "metrics.jsonl", lines);
}

Json read_summary(const fs::path& folder, const Schema& more) {
  if (!fs::exists(folder / "summary.json")) {
    throw IoError(concat(folder.string(), fs::exists(folder / "config.toml")
                                              ? ": the run is not finished; go on with --resume"
                                              : ": is no run folder"));
  }
  static const Schema kSummary = Schema::object(
      {{"parameters", Schema::count()}, {"seed", Schema::count()}, {"seconds", Schema::number(0)}});
  Json summary = read_json(folder / "summary.json");
  for (const Schema* schema : {&kSummary, &more}) {
    schema->check(summary, (folder / "summary.json").string());
  }
  return summary;
}

std::vector<Json> read_metrics(const fs::path& folder, const Schema& line) {
  const fs::path path = folder / "metrics.jsonl";
  auto lines = read_json_lines(path);
  for (size_t i = 0; i < lines.size(); ++i) {
    line.check(lines[i], concat(path.string(), ":", i + 1));
  }
  return lines;
}

void check_has_model(const std::string& key, const fs::path& run) {
  std::error_code error;
  if (fs::exists(run / "model" / "model.safetensors", error)) return;
  throw IoError(concat(key, ": ", run.string(), " holds no model of a finished run"));
}

std::map<std::string, std::string> model_checksums(const std::map<std::string, std::string>& runs) {
  std::map<std::string, std::string> sums;
  for (const auto& [key, run] : runs) {
    const fs::path manifest = fs::path(run) / "model" / "manifest.json";
    std::error_code error;
    // The manifest holds the sums of all files of the model.
    if (!run.empty() && fs::is_regular_file(manifest, error)) sums[key] = sha256_file(manifest);
  }
  return sums;
}

std::map<int64_t, fs::path> list_checkpoints(const fs::path& folder) {
  static const std::regex kName("step-([0-9]{1,18})");
  std::map<int64_t, fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder / "checkpoints", error)) {
    std::smatch match;
    const std::string name = entry.path().filename().string();
    if (std::regex_match(name, match, kName)) found[std::stoll(match[1])] = entry.path();
  }
  return found;
}

std::map<int64_t, fs::path> whole_checkpoints(const fs::path& folder) {
  auto found = list_checkpoints(folder);
  std::erase_if(found, [](const auto& item) { return !has_all_files(item.second); });
  return found;
}

}  // namespace moekit::run
