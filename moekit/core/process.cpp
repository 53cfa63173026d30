#include "moekit/core/process.h"

#include <malloc.h>

#include <cstdlib>

namespace moekit {
namespace {

/// @return whether it was not set
bool set_variable(const char* name, const char* value) {
  if (std::getenv(name) != nullptr) return false;
  ::setenv(name, value, /*replace=*/1);
  return true;
}

/// OpenBLAS tells Intel's processors by their model number, and gives one that is newer than itself
/// its kernels for the Pentium 4: training of the FashionMNIST mixture took three times as long.
/// The kernels named here are those it takes for the models it knows.
bool choose_blas_kernels() {
#if defined(__x86_64__)
  if (!__builtin_cpu_is("intel")) return false;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!avx512 && !avx2) return false;
  return set_variable("OPENBLAS_CORETYPE", avx512 ? "SkylakeX" : "Haswell");
#else
  return false;
#endif
}

/// After each of its loops OpenMP's threads turn in circles for some milliseconds, in case another
/// one comes, and take a processor from whoever else computes there. Measured with two threads on
/// two processors, seconds for 30 steps of a language model: 12 with that, 11 with a hundredth of
/// it, 13 asleep at once; beside one busy program more than 100, 21 and 20. A FashionMNIST mixture
/// on libtorch's operations alone: 5.2, 5.4 and 6.9; beside that program 11 and 9 for the last two.
bool let_threads_sleep() {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr) return false;
  return set_variable("GOMP_SPINCOUNT", "3000");
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

bool prepare_process() {
  keep_freed_memory();
  const bool kernels = choose_blas_kernels();
  const bool threads = let_threads_sleep();
  return kernels || threads;
}

}  // namespace moekit
