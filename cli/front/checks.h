#pragma once

#include "cli/flags.h"

/// What can be refused without libtorch, before it is loaded: each throws what it refuses, and
/// otherwise completes the flags.
namespace moekit::cli {

/// Reads the recipe with all its overrides. @throws ArgumentError, FormatError, IoError
void prepare(TrainFlags& flags);
/// @throws IoError when a folder is no run
void prepare(EvalFlags& flags);
void prepare(InspectFlags& flags);
/// @throws also ArgumentError for an output that is there already
void prepare(MergeFlags& flags);
void prepare(GenerateFlags& flags);
/// @throws IoError when there is no such file or folder
void prepare(DescribeFlags& flags);
void prepare(TraceFlags& flags);
void prepare(ReportFlags& flags);
void prepare(TokenizeFlags& flags);
/// Finds the study. @throws ArgumentError listing those there are.
void prepare(ReproduceFlags& flags);
/// @param isa  the name that was asked for, or empty
void prepare(BenchFlags& flags, const std::string& isa);
void prepare(MergedBenchFlags& flags);
void prepare(MergingBenchFlags& flags);

}  // namespace moekit::cli
