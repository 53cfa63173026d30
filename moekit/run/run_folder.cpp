#include "moekit/run/run_folder.h"

#include <torch/version.h>

#include <regex>
#include <sstream>

#include "moekit/core/files.h"
#include "moekit/core/version.h"

namespace moekit::run {
namespace fs = std::filesystem;

bool claim_run_folder(const Json& recipe, int64_t seed, int64_t threads,
                      const RunOptions& options) {
  const fs::path file = options.folder / "config.toml";
  const std::string text = to_toml(recipe);
  if (fs::exists(file)) {
    MOEKIT_CHECK(options.resume, options.folder.string(),
                 " holds a run already; give --resume to go on with it, or another --out");
    MOEKIT_CHECK(read_file(file) == text, options.folder.string(),
                 " was made by another recipe (see its config.toml); --resume wants the same");
    return true;
  }
  create_folders(options.folder);
  write_json(options.folder / "run.json", {{"moekit", std::string(version())},
                                           {"libtorch", TORCH_VERSION},
                                           {"seed", seed},
                                           {"threads", threads}});
  write_file_atomic(file, text);
  return false;
}

Json read_json(const fs::path& path) {
  auto json = Json::parse(read_file(path, 1 << 28), nullptr, /*allow_exceptions=*/false);
  MOEKIT_CHECK_FORMAT(!json.is_discarded(), path.string(), ": is no JSON");
  return json;
}

void write_json(const fs::path& path, const Json& json) {
  write_file_atomic(path, json.dump(2) + "\n");
}

void write_metrics(const fs::path& folder, const std::vector<Json>& metrics) {
  std::string lines;
  for (const auto& line : metrics) lines += line.dump() + "\n";
  write_file_atomic(folder / "metrics.jsonl", lines);
}

Json read_summary(const fs::path& folder) {
  if (!fs::exists(folder / "summary.json")) {
    throw IoError(concat(folder.string(), fs::exists(folder / "config.toml")
                                              ? ": the run is not finished; go on with --resume"
                                              : ": is no run folder"));
  }
  return read_json(folder / "summary.json");
}

std::vector<Json> read_metrics(const fs::path& folder) {
  const fs::path path = folder / "metrics.jsonl";
  std::istringstream in(read_file(path, 1 << 28));
  std::vector<Json> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(Json::parse(line, nullptr, false));
    MOEKIT_CHECK_FORMAT(!lines.back().is_discarded(), path.string(), ":", lines.size(),
                        ": is no JSON");
  }
  return lines;
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

}  // namespace moekit::run
