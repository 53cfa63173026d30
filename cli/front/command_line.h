#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/front/options.h"

namespace moekit::cli {

/// Every command with its flags, described once: parsing, help, completion and the manual come from
/// here. Loads nothing.
class CommandLine {
 public:
  CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;
  ~CommandLine() = default;

  /// Does what the words behind the program's name ask for. @return the exit code
  /// @throws ArgumentError naming the word that is wrong and what was probably meant.
  int run(std::vector<std::string> words);

  const CLI::App& app() const { return app_; }
  /// Of a flag or word with a finite choice; empty otherwise.
  std::vector<std::string> choices(const CLI::Option& option) const;

 private:
  void add_train();
  void add_eval();
  void add_inspect();
  void add_merge();
  void add_generate();
  void add_describe();
  void add_trace();
  void add_report();
  void add_reproduce();
  void add_data();
  void add_bench();
  void add_bench_moe(CLI::App& bench);
  void add_bench_merged(CLI::App& bench);
  void add_bench_merging(CLI::App& bench);
  void add_version();
  void add_completion();
  void add_manual();
  /// A command that is done by the library of commands. @param flags  a member, filled by parsing
  template <typename Flags>
  void on_chosen(CLI::App& command, Flags& flags);

  CLI::App app_;
  Choices choices_;
  std::function<int()> action_;  ///< of the command that was chosen
  TrainFlags train_;
  EvalFlags eval_;
  InspectFlags inspect_;
  MergeFlags merge_;
  GenerateFlags generate_;
  DescribeFlags describe_;
  TraceFlags trace_;
  TokenizeFlags tokenize_;
  ReportFlags report_;
  ReproduceFlags reproduce_;
  DataFlags data_;
  BenchFlags bench_;
  MergedBenchFlags bench_merged_;
  MergingBenchFlags bench_merging_;
  std::string isa_;
  std::string shell_;
  std::string manual_of_;
};

}  // namespace moekit::cli
