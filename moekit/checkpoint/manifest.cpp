#include "moekit/checkpoint/manifest.h"

#include <algorithm>
#include <string>
#include <vector>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/json.h"
#include "moekit/core/schema.h"

namespace moekit::checkpoint {
namespace fs = std::filesystem;
namespace {

constexpr const char* kName = "manifest.json";

/// The manifest's files, or null where there is none.
Json read_files(const fs::path& folder) {
  const fs::path path = folder / kName;
  // A link that leads nowhere is not "none": what is damaged must not switch the checks off.
  std::error_code error;
  if (fs::symlink_status(path, error).type() == fs::file_type::not_found) return nullptr;
  static const Schema kSchema = Schema::object(
      {{"files",
        Schema::map(Schema::object({{"bytes", Schema::count()}, {"sha256", Schema::text()}}))}});
  Json json = read_json(path);
  kSchema.check(json, path.string());
  for (const auto& [name, entry] : json["files"].items()) {
    const bool plain =
        !name.empty() && name != "." && name != ".." && fs::path(name).filename().string() == name;
    MOEKIT_CHECK_FORMAT(plain, path.string(), ": \"", name, "\" is no file of this folder");
  }
  return json["files"];
}

void check_file(const fs::path& file, const Json& entry) {
  const std::string where = file.string();
  std::error_code error;
  MOEKIT_CHECK_FORMAT(fs::is_regular_file(file, error), where, ": is missing; ", kName,
                      " names it");
  const uint64_t bytes = fs::file_size(file, error);
  if (error) throw IoError(concat("cannot read ", where, ": ", error.message()));
  MOEKIT_CHECK_FORMAT(bytes == entry["bytes"].get<uint64_t>(), where, ": has ", bytes, " bytes, ",
                      kName, " says ", entry["bytes"].dump());
  const std::string sum = sha256_file(file);
  MOEKIT_CHECK_FORMAT(sum == entry["sha256"], where, ": is damaged: its SHA-256 is ", sum, ", ",
                      kName, " says ", entry["sha256"].get<std::string>());
}

}  // namespace

void write_manifest(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && entry.path().filename() != kName) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  Json json = {{"files", Json::object()}};
  for (const auto& file : files) {
    json["files"][file.filename().string()] = {{"bytes", fs::file_size(file)},
                                               {"sha256", sha256_file(file)}};
  }
  write_json(folder / kName, json);
}

bool check_manifest(const fs::path& folder) {
  const Json files = read_files(folder);
  if (files.is_null()) return false;
  for (const auto& [name, entry] : files.items()) check_file(folder / name, entry);
  return true;
}

bool check_in_manifest(const fs::path& file) {
  const Json files = read_files(file.parent_path());
  if (files.is_null()) return false;
  const auto entry = files.find(file.filename().string());
  if (entry == files.end()) return false;
  check_file(file, *entry);
  return true;
}

}  // namespace moekit::checkpoint
