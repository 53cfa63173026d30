#include "moekit/study/study.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/study/study_fixture.h"
#include "tests/support/growth.h"
#include "tests/support/refusal.h"

namespace moekit::study {
namespace {
namespace fs = std::filesystem;

class StudyTest : public StudyFolder {};

TEST_F(StudyTest, SumsUpARowOverItsSeeds) {
  const Study study = read(kTwoRows);
  for (int seed = 1; seed <= 2; ++seed) summary("g/a", seed, 0.1 * seed);
  const RowResult row = gather(study, "g/a", 3);
  const Cell& cell = row.cells.at("test_error");
  EXPECT_NEAR(cell.ours.mean, 0.15, 1e-12);
  EXPECT_EQ(cell.ours.count, 2U);
  EXPECT_EQ(cell.missing(), 1U);
  EXPECT_TRUE(std::isnan(cell.values.at(2)));
  EXPECT_EQ(*cell.paper, 0.5);
  EXPECT_EQ(row.what_is_missing(), "seed 3: not run");
  EXPECT_EQ(row.folders().size(), 2U);
}

TEST_F(StudyTest, ANullIsAMissingSeedAndNoKeyIsNoFigure) {
  const Study study = read(kTwoRows);
  summary("g/a", 1, 0.1);
  summary("g/a", 2, nullptr);
  const Cell cell = gather(study, "g/a", 2).cells.at("test_error");
  EXPECT_EQ(cell.ours.count, 1U);
  EXPECT_EQ(cell.missing(), 1U);
  fs::create_directories(folder_ / "g/b/seed1");
  write_json(folder_ / "g/b/seed1/summary.json", {{"other", 1}});
  write_json(folder_ / "g/b/seed1/run.json", {{"moekit", "1"}});
  Study conditional = study;
  conditional.figure[0].conditional = true;
  fs::create_directories(folder_ / "g/a/seed3");
  write_json(folder_ / "g/a/seed3/summary.json", {{"other", 1}});
  write_json(folder_ / "g/a/seed3/run.json", {{"moekit", "1"}});
  EXPECT_EQ(gather(study, "g/a", 3).cells.at("test_error").missing(), 2U);
  EXPECT_EQ(gather(conditional, "g/a", 3).cells.at("test_error").missing(), 1U);
  const Cell none = gather(study, "g/b", 1).cells.at("test_error");
  EXPECT_FALSE(none.applies);
  EXPECT_EQ(none.missing(), 0U);
}

TEST_F(StudyTest, LeavesOutRunsThatAreNotWhatIsAskedForAndNamesThem) {
  const Study study = read(kTwoRows);
  for (int seed = 1; seed <= 3; ++seed) summary("g/a", seed, 0.1 * seed);
  std::vector<int64_t> seeds;
  const auto check = [&](const ConfigTree& asked, const fs::path& run) -> std::string {
    EXPECT_EQ(asked.values["k"], 1);
    EXPECT_EQ(asked.values["threads"], 1);
    seeds.push_back(asked.values["seed"].get<int64_t>());
    return run.filename() == "seed2" ? "made by another recipe" : "";
  };
  const RowResult row =
      summarize_row(study.row[0], study.figure,
                    collect_runs(study.row[0], study.figure, options(3), Plan{}, {}, check));
  EXPECT_EQ(seeds, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_NEAR(row.cells.at("test_error").ours.mean, 0.2, 1e-12);
  EXPECT_EQ(row.cells.at("test_error").ours.count, 2U);
  EXPECT_EQ(row.what_is_missing(), "seed 2: made by another recipe");
}

TEST_F(StudyTest, StandsAgainstThePaperThreeWays) {
  Study study = read(std::string(R"(
figure = [{ name = "test_error", title = "error", pointer = "/test/error", better = "lower" }]
)") + kTwoRows);
  for (int seed = 1; seed <= 6; ++seed) summary("g/a", seed, 0.48 + 0.02 * (seed % 2));
  const auto cell = [&](double paper, int64_t seeds = 6) {
    study.row[0].paper = {{"test_error", paper}};
    return gather(study, "g/a", seeds).cells.at("test_error");
  };
  // Our mean is 0.49, the interval's half-width 2.571 * 0.01095 / sqrt(6) = 0.0115.
  EXPECT_EQ(cell(0.501).standing, Standing::kReproduced);
  EXPECT_EQ(cell(0.502).standing, Standing::kBetter);
  EXPECT_EQ(cell(0.478).standing, Standing::kWorse);
  EXPECT_TRUE(cell(0.478).against);
  EXPECT_FALSE(cell(0.502).against);
  EXPECT_EQ(cell(0.501, 4).standing, Standing::kUndecided);
  study.row[0].expect = Expect::kWorse;
  EXPECT_EQ(cell(0.502).standing, Standing::kBetter);
  EXPECT_TRUE(cell(0.502).against);
  EXPECT_FALSE(cell(0.478).against);
  study.figure[0].margin = 0.01;
  EXPECT_EQ(cell(0.511).standing, Standing::kReproduced);
  EXPECT_EQ(cell(0.512).standing, Standing::kBetter);
  study.figure[0].better = Better::kNone;
  EXPECT_EQ(cell(0.6).standing, Standing::kDiffers);
  study.row[0].seeds = 2;
  EXPECT_EQ(cell(0.6).values.size(), 2U);
}

TEST_F(StudyTest, CountsHowFiguresStand) {
  Study study = read(std::string(R"(
figure = [{ name = "test_error", title = "error", pointer = "/test/error", better = "lower" }]
)") + kTwoRows);
  for (int seed = 1; seed <= 5; ++seed) {
    summary("g/a", seed, 0.48);
    summary("g/b", seed, 0.7);
  }
  study.row[1].paper = {{"test_error", 0.6}};
  const std::vector<RowResult> rows = {gather(study, "g/a", 5), gather(study, "g/b", 5)};
  const auto text = describe_standings(rows);
  EXPECT_NE(text.find("2 figures have a value of the paper: 0 reproduced"), std::string::npos);
  EXPECT_NE(text.find("1 better, 1 worse; 1 of them speak against"), std::string::npos) << text;
}

TEST_F(StudyTest, ValuesOfOtherDataAreLeftOut) {
  const Study study = read(kTwoRows);
  for (int seed = 1; seed <= 5; ++seed) summary("g/a", seed, 0.48);
  Plan plan;
  plan.data["g/a"] = "kmnist";
  plan.usual_data["g/a"] = "mnist";
  Outcome outcome;
  outcome.tier = "quick";
  outcome.rows = {gather(study, "g/a", 5, plan, {})};
  judge_all(study, outcome);
  EXPECT_FALSE(outcome.rows[0].cells.at("test_error").paper);
  const auto text = to_text(study, outcome);
  EXPECT_EQ(text.rfind("Data set kmnist in place of mnist: ", 0), 0U) << text;
  EXPECT_NE(to_markdown(study, outcome).find("test error (data: kmnist)"), std::string::npos);
}

TEST_F(StudyTest, PrintsTheSameFiguresAsTextMarkdownAndJson) {
  const Study study = read(kTwoRows);
  summary("g/a", 1, 0.1234);
  Outcome outcome;
  outcome.tier = "quick";
  outcome.command = "moekit reproduce x --seeds 1";
  outcome.rows = {gather(study, "g/a", 1)};
  judge_all(study, outcome);
  EXPECT_NE(to_text(study, outcome).find("0.1234"), std::string::npos);
  const auto markdown = to_markdown(study, outcome);
  EXPECT_NE(markdown.find("| g/a | 0.5000 | - | 0.1234 | 1 |"), std::string::npos) << markdown;
  EXPECT_NE(markdown.find("Command: `moekit reproduce x --seeds 1`"), std::string::npos);
  EXPECT_NE(markdown.find("Made by moekit 1, libtorch 2, on m1."), std::string::npos);
  const Json json = to_json(study, outcome);
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
                           "logs/a", "tune/a", "report.html", "a/seed3/b", "seed1"}) {
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
  EXPECT_EQ(refusal(study_of({"name = \"a\"\npaper = { test_error = nan }"})),
            file + ":1: row a: the value of test_error must be a number; got null");
}

TEST_F(StudyTest, RefusesEachThingThatMakesNoSenseInAWholeSentence) {
  const std::string figures =
      "figure = [{ name = \"e\", pointer = \"/validation/e\", better = \"lower\" }, "
      "{ name = \"p\", pointer = \"/p\", statistic = \"proportion\" }, "
      "{ name = \"t\", pointer = \"/t\", better = \"higher\" }]\n";
  const std::string row = "[[row]]\nname = \"a\"\ntier = \"quick\"\nrecipe = \"a.toml\"\n";
  const std::string second = "[[row]]\nname = \"b\"\ntier = \"full\"\nrecipe = \"a.toml\"\n";
  const auto claim = [&](const std::string& check) {
    return figures + row + "[[claim]]\ntext = \"c\"\nsource = \"s\"\ntier = \"quick\"\ncheck = [" +
           check + "]\n";
  };
  const auto tune = [&](const std::string& fields) {
    return figures + row + second + "needs = { k = \"a\" }\n[[tune]]\n" + fields;
  };
  const std::string grid = "grid = { k = [1] }\n";
  std::string thousand = "[0";
  for (int i = 1; i < 1000; ++i) thousand += concat(", ", i);
  thousand += "]";
  const std::pair<std::string, const char*> wrong[] = {
      {"figure = [{ name = \"\", pointer = \"/x\" }]",
       ":1: a figure wants a name and a pointer \"/...\"; got \"\", \"/x\""},
      {"figure = [{ name = \"x\", pointer = \"x\" }]",
       ":1: a figure wants a name and a pointer \"/...\"; got \"x\", \"x\""},
      {"figure = [{ name = \"x\" }]",
       ":1: a figure wants a name and a pointer \"/...\"; got \"x\", \"\""},
      {"[[row]]\nname = \"a\"", ":1: a row lacks its name or recipe"},
      {"[[row]]\nrecipe = \"a\"", ":1: a row lacks its name or recipe"},
      {"[[row]]\nname = \"a\"\nrecipe = \"r\"\ntier = \"slow\"",
       ":1: row a: tier must be quick or full; got \"slow\""},
      {row + "needs = 3", ":1: row a: needs, cycle, paper and reference must be tables"},
      {row + "cycle = []", ":1: row a: needs, cycle, paper and reference must be tables"},
      {row + "paper = \"x\"", ":1: row a: needs, cycle, paper and reference must be tables"},
      {row + "reference = 1.5", ":1: row a: needs, cycle, paper and reference must be tables"},
      {row + "needs = { k = 3 }", ":1: row a: needs.k must be the name of a row; got 3"},
      {row + "cycle = { k = 3 }", ":1: row a: cycle.k must be a list"},
      {row + "cycle = { k = [] }", ":1: row a: cycle.k must be a list"},
      {row + "paper = { test_eror = 0.5 }", ":1: row a: there is no figure \"test_eror\""},
      {row + "reference = { zzz = 1 }", ":1: row a: there is no figure \"zzz\""},
      {row + "paper = { test_error = \"x\" }",
       ":1: row a: the value of test_error must be a number; got \"x\""},
      {claim(""), ":6: claim \"c\": has no check"},
      {claim("{ left = \"a\", op = \"<\" }"), ":6: claim \"c\": \"a\" is no row.figure"},
      {claim("{ left = \"x.e\", op = \"<\" }"), ":6: claim \"c\": there is no row \"x\""},
      {claim("{ left = \"b.e\", op = \"<\" }") + second,
       ":6: claim \"c\": is of tier quick, its row b of tier full: they never stand in one table"},
      {claim("{ left = \"a.e\", op = \"<\", right = \"b.e\" }") + second,
       ":6: claim \"c\": is of tier quick, its row b of tier full: they never stand in one table"},
      {figures + row + "[[claim]]\ntext = \"c\"\ntier = \"slow\"\ncheck = []",
       ":6: claim \"c\": tier must be quick or full; got \"slow\""},
      {claim("{ left = \"a.x\", op = \"<\" }"), ":6: claim \"c\": there is no figure \"x\""},
      {claim("{ left = \"a.e\", op = \"<\", right = \"x.e\" }"),
       ":6: claim \"c\": there is no row \"x\""},
      {claim("{ left = \"a.p\", op = \"<=\", right = \"a.e\" }"),
       ":6: claim \"c\": of a.p and a.e one is a proportion, the other is none"},
      {claim("{ left = \"a.e\", op = \"==\" }"),
       ":6: claim \"c\": op must be <, <=, > or >=; got \"==\""},
      {tune(grid), ":11: tune: names no row"},
      {tune("rows = [\"a\"]"), ":11: tune: grid must be a table of at least one key"},
      {tune("rows = [\"a\"]\ngrid = { k = 1 }"), ":11: tune: grid.k must be a list"},
      {tune("rows = [\"a\"]\ngrid = { k = [] }"), ":11: tune: grid.k must be a list"},
      {tune("rows = [\"a\"]\ngrid = { a = [1, 2], b = " + thousand + " }"),
       ":11: tune: the grid has more than 1000 points"},
      {tune("rows = [\"a\"]\nseeds = 0\n" + grid), ":11: tune: seeds must be 1..10000; got 0"},
      {tune("rows = [\"a\"]\nfigure = \"x\"\n" + grid), ":11: tune: there is no figure \"x\""},
      {tune("rows = [\"a\"]\nfigure = \"p\"\n" + grid),
       ":11: tune: figure p has no direction (better = \"lower\" or \"higher\") to choose by"},
      {tune("rows = [\"a\"]\nfigure = \"t\"\n" + grid),
       ":11: tune: figure t is \"/t\"; a setting is chosen by validation data: "
       "\"/validation/...\""},
      {tune("rows = [\"x\"]\nfigure = \"e\"\n" + grid), ":11: tune: there is no row \"x\""},
      {tune("rows = [\"b\"]\nfigure = \"e\"\n" + grid),
       ":11: tune: row b needs another row; it cannot be tuned"},
      {tune("rows = [\"a\", \"a\"]\nfigure = \"e\"\n" + grid), ":11: tune: row a is tuned twice"},
  };
  const std::string file = (folder_ / "study.toml").string();
  for (const auto& [toml, message] : wrong) {
    SCOPED_TRACE(toml);
    try {
      read(toml);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const ArgumentError& error) {
      EXPECT_EQ(std::string(error.what()), file + message);
    }
  }
  // As much as there may be.
  EXPECT_EQ(
      read(tune("rows = [\"a\"]\nfigure = \"e\"\nseeds = 10000\ngrid = { b = " + thousand + " }"))
          .tune[0]
          .seeds,
      10000);
}

TEST_F(StudyTest, NamesOfRowsAreFolders) {
  const std::string part(255, 'a');
  EXPECT_TRUE(is_row_name(part));
  EXPECT_FALSE(is_row_name(part + "a"));
  std::string name = part + "/" + part + "/" + part + "/" + part;
  EXPECT_TRUE(is_row_name(name));  // 1,023 bytes
  EXPECT_FALSE(is_row_name(name + "/a"));
  EXPECT_FALSE(is_row_name("a\x7f"));
  EXPECT_FALSE(is_row_name("a\x1f"));
  EXPECT_TRUE(is_row_name("a b"));
  EXPECT_FALSE(is_row_name("seed12"));
  EXPECT_TRUE(is_row_name("seedling"));
  EXPECT_TRUE(is_row_name("g/logs"));  // only at the start
  EXPECT_TRUE(is_row_name("g/tune/report.html"));
  EXPECT_FALSE(is_row_name("tune"));
}

TEST_F(StudyTest, FindsFiguresAndSearchesByName) {
  const Study study = read(std::string(R"(
figure = [{ name = "test_error", pointer = "/e" },
          { name = "v", pointer = "/validation/v", better = "lower" }]
)") + kTwoRows + "[[tune]]\nrows = [\"g/a\"]\nfigure = \"v\"\ngrid = { k = [1] }\n");
  EXPECT_EQ(&figure_of(study.figure, "v"), &study.figure[1]);
  EXPECT_EQ(tune_of(study, "g/a"), &study.tune[0]);
  EXPECT_EQ(tune_of(study, "g/b"), nullptr);
  try {
    figure_of(study.figure, "w");
    ADD_FAILURE();
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "there is no figure \"w\"");
  }
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
  EXPECT_EQ(read(kTwoRows).figure.size(), 1U);
  EXPECT_EQ(read(kTwoRows).figure[0].pointer, "/test/error");
  const Study own = read(std::string(R"(
figure = [{ name = "speed", pointer = "/speed" }, { name = "test_error", pointer = "/error" }]
)") + kTwoRows);
  ASSERT_EQ(own.figure.size(), 2U);
  EXPECT_EQ(own.figure[1].pointer, "/error");
}

TEST_F(StudyTest, AShareOfSeedsIsOfZerosAndOnes) {
  Study study = read(kTwoRows);
  study.figure[0].statistic = Statistic::kProportion;
  study.row[0].paper = Json::object();
  const Json values[] = {0, 1, 1, nullptr, 0.5};
  for (int64_t seed = 1; seed <= 5; ++seed) summary("g/a", seed, values[seed - 1]);
  const auto row = gather(study, "g/a", 5);
  EXPECT_EQ(row.what_is_missing(),
            "seed 5: summary.json: /test/error counts for a proportion and "
            "must be 0 or 1; got 0.5");
  EXPECT_EQ(row.cells.at("test_error").ours.count, 3U);
  EXPECT_NEAR(row.cells.at("test_error").estimate.value, 2. / 3, 1e-12);
}

TEST_F(StudyTest, ARecordsShareThatIsNoneIsNamed) {
  Study study = read(kTwoRows);
  study.figure[0].statistic = Statistic::kProportion;
  RowRuns runs;
  runs.seeds = {{1, {}, "", {{"test_error", 0.5}}, {}}};
  EXPECT_EQ(moekit::refusal([&] {
              summarize_row(study.row[0], study.figure, runs);
            }).rfind("row g/a, figure test_error: ", 0),
            0U);
}

TEST_F(StudyTest, TellsWhatMadeARunAndWhatIsDamaged) {
  const Study study = read(kTwoRows);
  const auto missing = [&] { return gather(study, "g/a", 1).what_is_missing(); };
  const auto run = folder_ / "g/a/seed1";
  fs::create_directories(run);
  EXPECT_EQ(missing(), "seed 1: not run");
  write_file_atomic(run / "config.toml", "k = 1\n");
  EXPECT_EQ(missing(), "seed 1: not finished");
  write_file_atomic(run / "summary.json", "[1]");
  EXPECT_EQ(missing().rfind("seed 1: damaged: " + (run / "summary.json").string(), 0), 0U);
  summary("g/a", 1, 0.5);
  EXPECT_EQ(missing(), "");
  write_json(run / "run.json", {{"moekit", 3}, {"machine", "m"}});
  EXPECT_EQ(text_of(read_maker(run)), "moekit unknown, libtorch unknown, on m");
  write_file_atomic(run / "run.json", "3");
  EXPECT_EQ(missing().rfind("seed 1: damaged: " + (run / "run.json").string(), 0), 0U);
}

TEST_F(StudyTest, TellsWhyARowHasNoRun) {
  const Study study = read(kTwoRows);
  summary("g/a", 1, 0.25);
  Plan plan;
  plan.missing["g/b"] = "no data";
  EXPECT_EQ(gather(study, "g/a", 2, plan, {{"g/a/seed2", "killed"}}).what_is_missing(),
            "seed 2: failed: killed");
  // A run of before does not count where a new one failed.
  EXPECT_EQ(gather(study, "g/a", 1, plan, {{"g/a/seed1", "killed"}}).folders().size(), 0U);
  EXPECT_EQ(gather(study, "g/b", 2, plan, {}).what_is_missing(), "no data");
}

TEST_F(StudyTest, APageShowsTheFiguresOfRowsThatWereRun) {
  const Study study = read(kTwoRows);
  summary("g/a", 1, 0.25);
  Outcome outcome;
  outcome.tier = "quick";
  outcome.rows = {gather(study, "g/a", 2), gather(study, "g/b", 2)};
  judge_all(study, outcome);
  const auto table = figure_table(study, outcome);
  EXPECT_EQ(table.header, (std::vector<std::string>{"recipe", "n", "test error"}));
  ASSERT_EQ(table.rows.size(), 1U);
  EXPECT_EQ(table.rows[0], (std::vector<std::string>{"g/a", "1 of 2", "0.2500 [0.5000]"}));
  // A run that tells nothing has an empty place, no number.
  summary("g/b", 1, nullptr);
  outcome.rows = {gather(study, "g/b", 1)};
  judge_all(study, outcome);
  const auto told = to_markdown(study, outcome);
  EXPECT_NE(told.find("|  | 0 of 1 |"), std::string::npos) << told;
  outcome.rows = {gather(study, "g/a", 2), gather(study, "g/b", 2)};
  judge_all(study, outcome);
  const auto plots = seed_plots(study, outcome);
  ASSERT_EQ(plots.size(), 1U);
  ASSERT_EQ(plots[0].strips.size(), 1U);
  EXPECT_EQ(plots[0].strips[0].values, std::vector<double>{0.25});
  EXPECT_EQ(*plots[0].strips[0].paper, 0.5);
  EXPECT_TRUE(claim_plot(outcome).rows.empty());  // not tested
}

TEST(ParseReference, TakesRowAndFigureApart) {
  const auto reference = parse_reference("g/a.b.error", "claim");
  EXPECT_EQ(reference.row, "g/a.b");
  EXPECT_EQ(reference.figure, "error");
  try {
    parse_reference("error", "claim 3");
    ADD_FAILURE() << "took a figure of no row";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "claim 3: \"error\" is no row.figure");
  }
}

TEST_F(StudyTest, RefusesUnknownRowsFiguresAndOperators) {
  const std::string text = kTwoRows;
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return changed;
  };
  EXPECT_THROW(read(with("right = \"g/b.", "right = \"g/c.")), ArgumentError);
  EXPECT_THROW(read(with("g/a.test_error", "g/a.speed")), ArgumentError);
  EXPECT_THROW(read(with("\"<\"", "\"~\"")), ArgumentError);
  for (const char* tune :
       {"rows = []\ngrid = { k = [1] }", "rows = [\"g/c\"]\ngrid = { k = [1] }", "rows = [\"g/a\"]",
        "rows = [\"g/a\"]\ngrid = { k = 1 }", "rows = [\"g/a\", \"g/a\"]\ngrid = { k = [1] }"}) {
    EXPECT_THROW(read(concat("figure = [{ name = \"test_error\", pointer = \"/validation/error\", "
                             "better = \"lower\" }]\n",
                             text, "[[tune]]\nfigure = \"test_error\"\n", tune)),
                 ArgumentError)
        << tune;
  }
  // By the test set nothing is chosen.
  const auto by = [&](const char* pointer) {
    return concat("figure = [{ name = \"test_error\", pointer = \"", pointer,
                  "\", better = \"lower\" }]\n", text,
                  "[[tune]]\nfigure = \"test_error\"\nrows = [\"g/a\"]\ngrid = { k = [1] }");
  };
  EXPECT_THROW(read(by("/test/error")), ArgumentError);
  EXPECT_NO_THROW(read(by("/validation/error")));
  EXPECT_THROW(read(with("tier = \"quick\"", "tier = \"slow\"")), ArgumentError);
  EXPECT_THROW(read(with("title", "titel")), ArgumentError);
  EXPECT_THROW(read(with("test_error = 0.5", "test_error = \"low\"")), ArgumentError);
  EXPECT_THROW(read(text + "[[figure]]\nname = \"a\"\npointer = \"/a~b\"\n"), ArgumentError);
  EXPECT_THROW(read(with("recipe = \"b.toml\"", "recipe = \"b.toml\"\nneeds = { \"init.x\" = 3 }")),
               ArgumentError);
}

}  // namespace
}  // namespace moekit::study
