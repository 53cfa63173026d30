#include "cli/front/recipes.h"

#include <cstdlib>
#include <set>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/core/words.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

std::vector<fs::path> recipe_folders() {
  std::vector<fs::path> folders;
  const char* variable = std::getenv("MOEKIT_RECIPES");
  if (variable != nullptr && *variable != '\0') folders.emplace_back(variable);
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (!error) folders.push_back(self.parent_path().parent_path() / "share/moekit/recipes");
  folders.emplace_back("recipes");
  folders.emplace_back(MOEKIT_SOURCE_RECIPES);
  return folders;
}

}  // namespace

std::vector<std::string> study_names() {
  std::set<std::string> names;
  for (const auto& folder : recipe_folders()) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (fs::exists(entry.path() / "study.toml", error)) {
        names.insert(entry.path().filename().string());
      }
    }
  }
  return {names.begin(), names.end()};
}

fs::path find_study(const std::string& paper) {
  for (const auto& folder : recipe_folders()) {
    std::error_code error;
    if (fs::exists(folder / paper / "study.toml", error)) return fs::absolute(folder / paper);
  }
  const auto known = study_names();
  std::string names;
  for (const auto& name : known) names += " " + name;
  throw ArgumentError(concat("reproduce: there is no study \"", paper, "\"; known:", names,
                             did_you_mean(paper, known)));
}

}  // namespace moekit::cli
