// The benchmarks' main, in a process with the settings that the command has.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <cstdio>

#include "moekit/core/process.h"

int main(int argc, char** argv) {
  if (moekit::prepare_process()) {
    ::execv("/proc/self/exe", argv);  // OpenBLAS has read its settings before this main
    std::perror("moekit_benchmark: cannot start again");
    return 1;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
