#include "cli/front/library.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <malloc.h>

#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
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

/// OpenBLAS tells Intel's processors by their model number, and gives one that is newer than itself
/// its kernels for the Pentium 4: training of the FashionMNIST mixture took three times as long.
/// The kernels named here are those it takes for the models it knows. What the user has set stands.
void choose_blas_kernels() {
  if (!__builtin_cpu_is("intel")) return;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx512 && !avx2) return;
  ::setenv("OPENBLAS_CORETYPE", avx512 ? "SkylakeX" : "Haswell", /*replace=*/0);
}

/// After each of its loops OpenMP's threads turn in circles for some milliseconds, in case another
/// one comes, and take a processor from whoever else computes there. Measured with two threads on
/// two processors, seconds for 30 steps of a language model: 12 with that, 11 with a hundredth of
/// it, 13 asleep at once; beside one busy program more than 100, 21 and 20. A FashionMNIST mixture
/// on libtorch's operations alone: 5.2, 5.4 and 6.9; beside that program 11 and 9 for the last two.
/// What the user has set stands.
void let_threads_sleep() {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  ::setenv("GOMP_SPINCOUNT", "3000", /*replace=*/0);
}

/// A step of training frees tensors of some megabytes and asks for the same again. glibc would give
/// them back to the system each time, and their pages would be cleared anew: a tenth of the time of
/// the MNIST mixtures. What GLIBC_TUNABLES says stands.
void keep_freed_memory() {
#ifdef __GLIBC__
  const char* tunables = std::getenv("GLIBC_TUNABLES");
  if (tunables != nullptr && *tunables != '\0') return;
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most it takes; larger ones are still given back
  ::mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
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
  choose_blas_kernels();  // this and the next are read when it is loaded
  let_threads_sleep();
  keep_freed_memory();
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
