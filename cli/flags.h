#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "moekit/bench/merged_options.h"
#include "moekit/bench/merging_options.h"
#include "moekit/bench/moe_options.h"
#include "moekit/compress/options.h"
#include "moekit/core/config.h"
#include "moekit/text/generation.h"

/// What the commands that need libtorch are told. The front (cli/front) fills these from the
/// command line and refuses what it can; the commands (cli/*.cpp, a library of their own) do it.
namespace moekit::cli {

struct TrainFlags {
  std::string recipe;
  std::vector<std::string> set;
  std::string data;
  std::string out;
  std::string status;
  std::optional<std::int64_t> seed;
  std::optional<std::int64_t> threads;
  bool resume = false;
  bool json = false;
  bool quiet = false;
  bool list_keys = false;
  bool markdown = false;
  ConfigTree tree;  ///< the recipe with all overrides; empty with `list_keys`
};

struct EvalFlags {
  std::string run;
  std::string data;
  std::vector<std::string> texts;  ///< files a published model is judged on
  std::int64_t window = 0;         ///< tokens of them at a time; 0: not given
  bool json = false;
};

struct InspectFlags {
  std::string run;
  std::string data;
  std::string against;
  bool flops = false;
  std::int64_t batch = 1;  ///< samples of the forward pass that `flops` counts
  bool json = false;
};

struct MergeFlags {
  std::string run;
  std::string output;
  std::string data;
  compress::MergeOptions options;
  bool json = false;
};

struct GenerateFlags {
  std::string run;
  text::GenerationOptions options;
  std::string weights;  ///< format they are packed in; empty: as they are
  bool json = false;
};

struct DescribeFlags {
  std::string model;
  bool json = false;
};

struct TraceFlags {
  std::string model;
  std::string ids;
  std::string output;
};

struct ReportFlags {
  std::vector<std::string> runs;
  std::string data;
  std::string output = "report.html";
};

struct ReproduceFlags {
  std::string paper;
  std::filesystem::path folder;  ///< of the paper's study.toml
  bool quick = false;
  bool full = false;
  std::int64_t seeds = 0;  ///< 0: as many as the study says
  std::int64_t jobs = 0;   ///< 0: one a core
  std::string data;
  std::string out;
  std::string rows = "*";
  std::vector<std::string> set;
  std::string markdown;
  std::string report;
  bool json = false;
  bool quiet = false;
  bool table_only = false;
  bool until_decided = false;
  std::int64_t max_seeds = 0;  ///< 0: not given
  bool allow_missing = false;
  std::string check;                   ///< a committed table to be held against new runs, or empty
  std::optional<std::int64_t> sample;  ///< runs that `check` repeats
};

struct TokenizeFlags {
  std::string recipe;
  std::vector<std::string> set;
  std::string out;
  bool json = false;
  ConfigTree tree;  ///< the recipe with all overrides
};

enum class DataAction { kList, kInfo, kFetch };

struct DataFlags {
  DataAction action = DataAction::kList;
  std::string name;
  std::string data;
  std::string mirror;
  bool json = false;
};

struct BenchFlags {
  bench::MoeBenchOptions options;
  bool json = false;
};

struct MergedBenchFlags {
  bench::MergedBenchOptions options;
  bool json = false;
};

struct MergingBenchFlags {
  bench::MergingBenchOptions options;
  bool json = false;
};

/// One command with its flags.
using Command = std::variant<TrainFlags, EvalFlags, InspectFlags, MergeFlags, GenerateFlags,
                             DescribeFlags, TraceFlags, ReportFlags, ReproduceFlags, DataFlags,
                             TokenizeFlags, BenchFlags, MergedBenchFlags, MergingBenchFlags>;

}  // namespace moekit::cli
