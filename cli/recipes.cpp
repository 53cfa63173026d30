#include "cli/recipes.h"

#include <cstdlib>
#include <set>
#include <vector>

#include "moekit/core/error.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

std::vector<fs::path> recipe_folders() {
  std::vector<fs::path> folders;
  if (const char* variable = std::getenv("MOEKIT_RECIPES")) folders.emplace_back(variable);
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back(self.parent_path().parent_path() / "share/moekit/recipes");
  folders.emplace_back("recipes");
  folders.emplace_back(MOEKIT_SOURCE_RECIPES);
  return folders;
}

}  // namespace

fs::path find_study(const std::string& paper) {
  std::set<std::string> known;
  for (const auto& folder : recipe_folders()) {
    if (fs::exists(folder / paper / "study.toml")) return fs::absolute(folder / paper);
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (fs::exists(entry.path() / "study.toml")) known.insert(entry.path().filename().string());
    }
  }
  std::string names;
  for (const auto& name : known) names += " " + name;
  throw ArgumentError(concat("reproduce: there is no study \"", paper, "\"; known:", names));
}

}  // namespace moekit::cli
