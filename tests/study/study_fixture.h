#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "moekit/core/files.h"
#include "moekit/study/tables.h"

namespace moekit::study {

/// A folder with a study, its recipe and runs as `moekit train` leaves them.
class StudyFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / concat("moekit-study-", ::getpid());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    write_file_atomic(folder_ / "a.toml", "k = 1\n");
    write_file_atomic(folder_ / "b.toml", "k = 2\n");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Study read(const std::string& toml) const {
    write_file_atomic(folder_ / "study.toml", toml);
    return read_study(folder_ / "study.toml", {{"test_error", "test error", "/test/error"}});
  }
  /// A finished run whose summary holds this value.
  void summary(const std::string& row, int64_t seed, const Json& error,
               const std::string& machine = "m1") const {
    const auto run = folder_ / run_name(row, seed);
    std::filesystem::create_directories(run);
    write_json(run / "run.json", {{"moekit", "1"}, {"libtorch", "2"}, {"machine", machine}});
    write_json(run / "summary.json", {{"test", {{"error", error}}}});
  }
  PlanOptions options(int64_t seeds) const {
    PlanOptions out;
    out.program = "/bin/true";
    out.folder = folder_;
    out.out = folder_;
    out.seeds = seeds;
    return out;
  }
  /// Of runs that are all what was asked for.
  RowResult gather(const Study& study, const std::string& name, int64_t seeds) const {
    return gather(study, name, seeds, Plan{}, {});
  }
  RowResult gather(const Study& study, const std::string& name, int64_t seeds, const Plan& plan,
                   const Failures& failures) const {
    for (const auto& row : study.row) {
      if (row.name != name) continue;
      return summarize_row(row, study.figure,
                           collect_runs(row, study.figure, options(seeds), plan, failures,
                                        [](const auto&, const auto&) { return std::string(); }));
    }
    throw ArgumentError("no such row");
  }

  std::filesystem::path folder_;
};

inline constexpr const char* kTwoRows = R"(
title = "t"
[[row]]
name = "g/a"
tier = "quick"
recipe = "a.toml"
paper = { test_error = 0.5 }
[[row]]
name = "g/b"
tier = "quick"
recipe = "b.toml"
[[claim]]
text = "a beats b"
source = "paper"
tier = "quick"
check = [{ left = "g/a.test_error", op = "<", right = "g/b.test_error" }]
)";

}  // namespace moekit::study
