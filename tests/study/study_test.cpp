#include "moekit/study/study.h"

#include <gtest/gtest.h>

#include "moekit/core/files.h"
#include "moekit/study/tables.h"
#include "tests/support/growth.h"

namespace moekit::study {
namespace {
namespace fs = std::filesystem;

class StudyTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-study-", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void summary(const std::string& row, int seed, double error) {
    const fs::path run = folder_ / row / concat("seed", seed);
    fs::create_directories(run);
    write_file_atomic(run / "summary.json", Json{{"test", {{"error", error}}}}.dump());
  }
  Study read(const std::string& toml) const {
    write_file_atomic(folder_ / "study.toml", toml);
    return read_study(folder_ / "study.toml", {{"test_error", "test error", "/test/error"}});
  }
  fs::path folder_;
};

constexpr const char* kRows = R"(
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

TEST_F(StudyTest, JudgesAClaimOnMeansOverSeeds) {
  const Study study = read(kRows);
  for (int seed = 1; seed <= 2; ++seed) {
    summary("g/a", seed, 0.1 * seed);
    summary("g/b", seed, 0.2 * seed);
  }
  std::vector<RowResult> rows;
  for (const auto& row : study.row) rows.push_back(gather_row(row, study.figure, folder_, 3));
  EXPECT_NEAR(rows[0].cells["test_error"].ours.mean, 0.15, 1e-12);
  EXPECT_EQ(rows[0].cells["test_error"].ours.count, 2U);
  EXPECT_EQ(*rows[0].cells["test_error"].paper, 0.5);
  EXPECT_EQ(judge(study.claim[0], study.figure, rows).verdict, Verdict::kHeld);
  std::swap(rows[0].cells, rows[1].cells);
  EXPECT_EQ(judge(study.claim[0], study.figure, rows).verdict, Verdict::kNotHeld);
  rows[1].cells.clear();
  const auto untested = judge(study.claim[0], study.figure, rows);
  EXPECT_EQ(untested.verdict, Verdict::kNotTested);
  EXPECT_EQ(untested.detail, "g/b: not run");
}

TEST_F(StudyTest, AppliesFactorAndOffset) {
  const Study study = read(kRows);
  summary("g/a", 1, 0.30);
  summary("g/b", 1, 0.40);
  std::vector<RowResult> rows;
  for (const auto& row : study.row) rows.push_back(gather_row(row, study.figure, folder_, 1));
  Claim claim = study.claim[0];
  claim.check[0].factor = 0.7;
  EXPECT_EQ(judge(claim, study.figure, rows).verdict, Verdict::kNotHeld);  // 0.28
  claim.check[0].offset = 0.05;
  EXPECT_EQ(judge(claim, study.figure, rows).verdict, Verdict::kHeld);  // 0.33
}

TEST_F(StudyTest, JudgesRowsAgainstThePaperAndCapsSeeds) {
  Study study = read(std::string(R"(
figure = [{ name = "test_error", title = "error", pointer = "/test/error", better = "lower" }]
)") + kRows);
  for (int seed = 1; seed <= 4; ++seed) summary("g/a", seed, 0.48 + 0.02 * (seed % 2));
  const auto verdict = [&](double paper) {
    study.row[0].paper = {{"test_error", paper}};
    return gather_row(study.row[0], study.figure, folder_, 4).cells["test_error"].verdict;
  };
  // Our mean is 0.49 with standard error 0.0058.
  EXPECT_EQ(verdict(0.50), "reproduced: within 2 s.e.");
  EXPECT_EQ(verdict(0.55), "reproduced: ours is better");
  EXPECT_EQ(verdict(0.45), "not reproduced");
  study.row[0].seeds = 2;
  EXPECT_EQ(gather_row(study.row[0], study.figure, folder_, 4).runs.size(), 2U);
}

TEST_F(StudyTest, PrintsTheSameFiguresAsTextMarkdownAndJson) {
  const Study study = read(kRows);
  summary("g/a", 1, 0.1234);
  std::vector<RowResult> rows = {gather_row(study.row[0], study.figure, folder_, 1)};
  const std::vector<ClaimResult> claims = {judge(study.claim[0], study.figure, rows)};
  EXPECT_NE(to_text(study, rows, claims).find("0.1234"), std::string::npos);
  EXPECT_NE(to_markdown(study, rows, claims, "cmd").find("0.1234"), std::string::npos);
  const Json json = to_json(study, rows, claims);
  EXPECT_EQ(json["rows"][0]["figures"]["test_error"]["mean"], 0.1234);
  EXPECT_EQ(json["claims"][0]["verdict"], "not tested");
}

/// A study of rows with these fields each.
std::string study_of(std::initializer_list<const char*> rows) {
  std::string text;
  for (const char* fields : rows) {
    text += concat("[[row]]\ntier = \"quick\"\nrecipe = \"r.toml\"\n", fields, "\n");
  }
  return text;
}

TEST_F(StudyTest, RefusesWhatCannotBeRunWithFileAndLine) {
  const std::string file = (folder_ / "study.toml").string();
  const auto refusal = [&](const std::string& toml) -> std::string {
    try {
      read(toml);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(refusal(study_of({"name = \"g/a-b.1 x\""})), "no error");
  for (const char* name : {"../../x", "/x", "a/../b", "a//b", "a/", ".", "a\\tb", "a\\\\b",
                           "logs/a", "a/seed3/b", "seed1"}) {
    SCOPED_TRACE(name);
    const auto message = refusal(study_of({concat("name = \"", name, "\"").c_str()}));
    EXPECT_EQ(message.rfind(file + ":1: row name \"", 0), 0U) << message;
  }
  EXPECT_EQ(refusal(study_of({"name = \"a\"", "name = \"a\""})),
            file + ":5: row a: there is another row of this name");
  EXPECT_EQ(refusal(study_of({"name = \"a\"\nneeds = { k = \"b\" }", "name = \"b\""})),
            file + ":1: row a: needs.k: there is no row \"b\" before this one");
  EXPECT_EQ(refusal(study_of({"name = \"a\"\nneeds = { k = \"a\" }"})),
            file + ":1: row a: needs.k: there is no row \"a\" before this one");
  EXPECT_EQ(refusal(study_of({"name = \"a\"", "name = \"b\"\nneeds = { k = \"a\" }"})), "no error");
  EXPECT_EQ(refusal(study_of({"name = \"a\"\nseeds = -1"})),
            file + ":1: row a: seeds must be 0..10000; got -1");
  EXPECT_EQ(refusal(study_of({"name = \"a\"\nseeds = 9223372036854775807"})),
            file + ":1: row a: seeds must be 0..10000; got 9223372036854775807");
  EXPECT_EQ(refusal("\nquick_seeds = 1000000000000\n"),
            file + ":2: quick_seeds must be 1..10000; got 1000000000000");
  EXPECT_EQ(refusal("full_seeds = 0\n"), file + ":1: full_seeds must be 1..10000; got 0");
  EXPECT_EQ(refusal("figure = [{ name = \"x\", pointer = \"/x\" },\n{ name = \"x\", pointer = "
                    "\"/y\" }]\n"),
            file + ":2: figure x stands there twice");
  EXPECT_EQ(refusal(study_of({"name = \"a\"\npaper = { e = nan }"})),
            file + ":1: row a: the value of e must be a number; got null");
}

TEST_F(StudyTest, CostsAsMuchAsThereAreRows) {
  const auto study = [](int n) {
    std::string text = study_of({"name = \"r\""});
    for (int i = 0; i < n; ++i) {
      text += study_of({concat("name = \"r", i, "\"\nneeds = { k = \"r\" }").c_str()});
    }
    return parse_toml(text, "study.toml");
  };
  EXPECT_LT(growth(300, study, [](const ConfigTree& tree) { parse_study(tree, {}); }),
            kLinearGrowth);
}

TEST_F(StudyTest, RefusesValuesOfAnotherTypeWithFileLineAndKey) {
  const std::string file = (folder_ / "study.toml").string();
  const std::pair<const char*, const char*> wrong[] = {
      {"title = 3", ":1: title must be a string; got 3"},
      {"row = 3", ":1: row must be an array; got 3"},
      {"row = [3]", ":1: row[0] must be a table; got 3"},
      {"[[row]]\nname = []", ":2: row[0].name must be a string; got an array"},
      {"[[row]]\nset = \"x\"", ":2: row[0].set must be an array; got \"x\""},
      {"[[row]]\nseeds = 1.5", ":2: row[0].seeds must be a whole number; got 1.5"},
      {"[[row]]\nauxiliary = 1", ":2: row[0].auxiliary must be true or false; got 1"},
      {"[[claim]]\ncheck = [{ factor = inf }]",
       ":2: claim[0].check[0].factor must be a finite number; got inf"},
      {"quick_seeds = \"many\"", ":1: quick_seeds must be a whole number; got \"many\""},
      {"nonsense = 1", ":1: unknown key nonsense"},
  };
  for (const auto& [toml, message] : wrong) {
    SCOPED_TRACE(toml);
    try {
      read(toml);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const ArgumentError& error) {
      EXPECT_EQ(std::string(error.what()).rfind(file + message, 0), 0U) << error.what();
    }
  }
}

TEST_F(StudyTest, TakesTheCallersFiguresWhereItNamesNone) {
  EXPECT_EQ(read(kRows).figure.size(), 1U);
  EXPECT_EQ(read(kRows).figure[0].pointer, "/test/error");
  const Study own = read(std::string(R"(
figure = [{ name = "speed", pointer = "/speed" }, { name = "test_error", pointer = "/error" }]
)") + kRows);
  ASSERT_EQ(own.figure.size(), 2U);
  EXPECT_EQ(own.figure[1].pointer, "/error");
}

TEST_F(StudyTest, TellsWhyARowHasNoRun) {
  const Study study = read(kRows);
  summary("g/a", 1, 0.25);
  auto rows = study.row;
  auto& hidden = rows.emplace_back(rows[0]);
  hidden.name = "g/step";
  hidden.auxiliary = true;
  const auto results = gather_rows(rows, study.figure, folder_, 2, {{"g/b", "no data"}},
                                   {{"g/a/seed2", "killed"}, {"g/step/seed1", "killed"}});
  ASSERT_EQ(results.size(), 2U);
  EXPECT_EQ(results[0].missing, "killed");
  EXPECT_EQ(results[0].runs, std::vector<std::string>{(folder_ / "g/a/seed1").string()});
  EXPECT_EQ(results[1].missing, "no data");
}

TEST_F(StudyTest, APageShowsTheFiguresOfRowsThatWereRun) {
  const Study study = read(kRows);
  summary("g/a", 1, 0.25);
  const auto results = gather_rows(study.row, study.figure, folder_, 1, {}, {});
  const auto table = figure_table(study, results);
  EXPECT_EQ(table.header, (std::vector<std::string>{"recipe", "n", "test error"}));
  ASSERT_EQ(table.rows.size(), 1U);
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"g/a", "1", "0.2500 [0.5000]"}));
}

TEST_F(StudyTest, RefusesUnknownRowsFiguresAndOperators) {
  const std::string text = kRows;
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  EXPECT_THROW(read(with("right = \"g/b.", "right = \"g/c.")), ArgumentError);
  EXPECT_THROW(read(with("g/a.test_error", "g/a.speed")), ArgumentError);
  EXPECT_THROW(read(with("\"<\"", "\"~\"")), ArgumentError);
  EXPECT_THROW(read(with("tier = \"quick\"", "tier = \"slow\"")), ArgumentError);
  EXPECT_THROW(read(with("title", "titel")), ArgumentError);
  EXPECT_THROW(read(with("test_error = 0.5", "test_error = \"low\"")), ArgumentError);
  EXPECT_THROW(read(text + "[[figure]]\nname = \"a\"\npointer = \"/a~b\"\n"), ArgumentError);
  EXPECT_THROW(read(with("recipe = \"b.toml\"", "recipe = \"b.toml\"\nneeds = { \"init.x\" = 3 }")),
               ArgumentError);
}

}  // namespace
}  // namespace moekit::study
