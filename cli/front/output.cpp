#include "cli/front/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/guard.h"

namespace moekit::cli {

void open_standard_files() {
  for (const int file : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(file, F_GETFD) != -1 || errno != EBADF) continue;
    // open() gives the smallest free number, which is this one. To what is open for reading alone,
    // printf() fails as it would without a file.
    const int mode = file == STDOUT_FILENO ? O_RDONLY : O_RDWR;
    if (::open("/dev/null", mode) != file) return;
  }
}

int finish_output(int code) {
  const bool failed_before = std::ferror(stdout) != 0;
  const bool failed_now = std::fflush(stdout) != 0;
  const int reason = errno;
  if (!failed_before && !failed_now) return code;
  if (failed_now) {
    std::fprintf(stderr, "moekit: cannot write to standard output: %s\n", std::strerror(reason));
  } else {
    std::fprintf(stderr, "moekit: cannot write to standard output\n");
  }
  return code == 0 ? kFailed : code;
}

}  // namespace moekit::cli
