// Preloaded into a program: kills it, as kill -9 does, before the KILL_AT-th call that changes
// names on the disk. The number of such calls goes to the file KILL_COUNT, where that is set.
#include <dlfcn.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace {

long g_calls = 0;

void count() {
  const char* at = std::getenv("KILL_AT");
  if (++g_calls == (at != nullptr ? std::atol(at) : 0)) ::kill(::getpid(), SIGKILL);
}

__attribute__((destructor)) void write_count() {
  const char* path = std::getenv("KILL_COUNT");
  std::FILE* out = path != nullptr ? std::fopen(path, "w") : nullptr;
  if (out == nullptr) return;
  std::fprintf(out, "%ld\n", g_calls);
  std::fclose(out);
}

/// Counts, and calls the function of this name in the next library.
template <typename... Arguments>
int pass_on(const char* name, Arguments... arguments) {
  count();
  return reinterpret_cast<int (*)(Arguments...)>(::dlsym(RTLD_NEXT, name))(arguments...);
}

}  // namespace

extern "C" {
int rename(const char* from, const char* to) noexcept { return pass_on("rename", from, to); }
int renameat2(int a, const char* from, int b, const char* to, unsigned flags) noexcept {
  return pass_on("renameat2", a, from, b, to, flags);
}
int unlink(const char* path) noexcept { return pass_on("unlink", path); }
int unlinkat(int folder, const char* path, int flags) noexcept {
  return pass_on("unlinkat", folder, path, flags);
}
int rmdir(const char* path) noexcept { return pass_on("rmdir", path); }
int remove(const char* path) noexcept { return pass_on("remove", path); }
int mkdir(const char* path, mode_t mode) noexcept { return pass_on("mkdir", path, mode); }
}
