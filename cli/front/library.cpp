#include "cli/front/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <filesystem>
#include <string_view>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/process.h"
#include "moekit/core/version.h"

namespace moekit::cli {
namespace fs = std::filesystem;
namespace {

template <typename Function>
Function* find_function(void* library, const char* name, const fs::path& path) {
  auto* function = reinterpret_cast<Function*>(::dlsym(library, name));
  if (function == nullptr) {
    throw IoError(concat(path.string(), ": is no library of moekit's commands: it lacks ", name));
  }
  return function;
}

/// Relative to the program: in a build and where it is installed alike.
fs::path library_path() {
  const fs::path program = fs::read_symlink("/proc/self/exe");
  return (program.parent_path() / MOEKIT_COMMANDS_LIBRARY).lexically_normal();
}

}  // namespace

int run_in_library(const Command& command) {
  const fs::path path = library_path();
  std::error_code error;
  if (!fs::exists(path, error)) {
    throw IoError(concat(path.string(),
                         ": not found; it belongs to this program and computes for "
                         "it: build or install moekit again"));
  }
  prepare_process();  // its settings are read when the library is loaded
  // Everything is resolved now: a library that lacks a function is refused before any work.
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw IoError(concat("cannot load ", path.string(), ": ", ::dlerror()));
  const std::string_view its_version =
      find_function<const char*()>(library, "moekit_commands_version", path)();
  if (its_version != version()) {
    throw IoError(concat(path.string(), ": is of version ", its_version, ", this program of ",
                         version(), ": build or install moekit again"));
  }
  return find_function<int(const Command*)>(library, "moekit_run_command", path)(&command);
}

bool print_written_keys(bool markdown) {
  const fs::path library = library_path();
  const fs::path page = library.parent_path() / (markdown ? "keys.md" : "keys.txt");
  std::error_code error;
  const auto written = fs::last_write_time(page, error);
  if (error) return false;
  // A library built since may have other keys. Without one there is nothing to ask about.
  const auto built = fs::last_write_time(library, error);
  if (error || written < built) return false;
  fmt::print("{}", read_file(page));
  return true;
}

}  // namespace moekit::cli
