#pragma once

#include "cli/flags.h"

/// One function per command that needs libtorch, each in a file of its own.
/// @return the exit code; throws `moekit::Error`.
namespace moekit::cli {

int run(const TrainFlags& flags);
int run(const EvalFlags& flags);
int run(const InspectFlags& flags);
int run(const MergeFlags& flags);
int run(const GenerateFlags& flags);
int run(const DescribeFlags& flags);
int run(const TraceFlags& flags);
int run(const ReportFlags& flags);
int run(const ReproduceFlags& flags);
int run(const DataFlags& flags);
int run(const TokenizeFlags& flags);
int run(const BenchFlags& flags);
int run(const MergedBenchFlags& flags);
int run(const MergingBenchFlags& flags);

}  // namespace moekit::cli

extern "C" {
/// What the front looks up in this library. The command is that of cli/flags.h as compiled with
/// the version that the second function names.
int moekit_run_command(const moekit::cli::Command* command);
const char* moekit_commands_version();
}
