#include "moekit/study/plan.h"

#include <gtest/gtest.h>

#include "moekit/core/files.h"

namespace moekit::study {
namespace {
namespace fs = std::filesystem;

Row row(const std::string& name, const std::string& tier = "quick", Json needs = Json::object()) {
  Row out;
  out.name = name;
  out.tier = tier;
  out.recipe = "r.toml";
  out.needs = std::move(needs);
  return out;
}

std::vector<std::string> names(const std::vector<Row>& rows) {
  std::vector<std::string> out;
  for (const auto& r : rows) out.push_back(r.name);
  return out;
}

TEST(ChooseRows, TakesThoseOfATierThatFitAPatternInTheStudysOrder) {
  Study study;
  study.row = {row("b/two"), row("a/one"), row("a/two"), row("a/full", "full")};
  EXPECT_EQ(names(choose_rows(study, "quick", "*")),
            (std::vector<std::string>{"b/two", "a/one", "a/two"}));
  EXPECT_EQ(names(choose_rows(study, "quick", "a/*")),
            (std::vector<std::string>{"a/one", "a/two"}));
  EXPECT_EQ(names(choose_rows(study, "quick", "?/two")),
            (std::vector<std::string>{"b/two", "a/two"}));
  EXPECT_EQ(names(choose_rows(study, "full", "*")), std::vector<std::string>{"a/full"});
  EXPECT_TRUE(choose_rows(study, "quick", "c*").empty());
  EXPECT_TRUE(row_with_needed(study, "a/*").empty());
}

TEST(ChooseRows, PullsInWhatTheyNeedWhateverItsTier) {
  Study study;
  study.row = {row("far", "full"), row("other"), row("near", "full", {{"k", "far"}}),
               row("last", "quick", {{"k", "near"}})};
  EXPECT_EQ(names(row_with_needed(study, "last")), names(choose_rows(study, "quick", "last")));
  EXPECT_EQ(names(choose_rows(study, "quick", "last")),
            (std::vector<std::string>{"far", "near", "last"}));
}

class PlanTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-plan-", ::getpid());
    fs::create_directories(folder_);
    write_file_atomic(folder_ / "r.toml", "seed = 1\n[data]\nname = \"here\"\n");
  }
  void TearDown() override { fs::remove_all(folder_); }
  PlanOptions options(int64_t seeds) { return {"/bin/moekit", folder_, "/out", seeds, 1}; }
  /// Everything but the data set "gone" is there.
  static RecipeFacts check(const ConfigTree& recipe) {
    const std::string name = recipe.values["data"]["name"].get<std::string>();
    if (name == "bad") throw ArgumentError("bad data");
    return {name == "gone" ? "data set gone was not found" : "", name};
  }
  fs::path folder_;
};

TEST_F(PlanTest, AJobIsATrainingOfTheRowsRecipeInAFolderOfItsOwn) {
  Row one = row("g/a");
  one.set = {"train.lr=0.1"};
  one.cycle = {{"seed_of", {7, "x"}}};
  auto common = options(3);
  common.set = {"data.name=here"};
  common.data_folder = "/data";
  const auto plan = make_plan({one}, common, check);
  ASSERT_EQ(plan.jobs.size(), 3U);
  EXPECT_EQ(plan.jobs[1].name, "g/a/seed2");
  EXPECT_EQ(plan.jobs[1].log, "/out/logs/g/a/seed2.log");
  EXPECT_TRUE(plan.jobs[1].after.empty());
  EXPECT_EQ(plan.jobs[1].command, (std::vector<std::string>{"/bin/moekit",
                                                            "train",
                                                            (folder_ / "r.toml").string(),
                                                            "--seed",
                                                            "2",
                                                            "--threads",
                                                            "1",
                                                            "--quiet",
                                                            "--status",
                                                            "/out/logs/g/a/seed2.status",
                                                            "--resume",
                                                            "--out",
                                                            "/out/g/a/seed2",
                                                            "--data",
                                                            "/data",
                                                            "--set",
                                                            "train.lr=0.1",
                                                            "--set",
                                                            "data.name=here",
                                                            "--set",
                                                            "seed_of='x'"}));
  EXPECT_EQ(plan.jobs[2].command.back(), "seed_of=7");  // the third seed starts over
}

TEST_F(PlanTest, ARowRunsAfterTheRunOfTheSameSeedThatItNeeds) {
  const auto plan =
      make_plan({row("a"), row("b", "quick", {{"init.from", "a"}})}, options(2), check);
  ASSERT_EQ(plan.jobs.size(), 4U);
  // Seed after seed.
  EXPECT_EQ(plan.jobs[0].name, "a/seed1");
  EXPECT_EQ(plan.jobs[1].name, "b/seed1");
  EXPECT_EQ(plan.jobs[3].name, "b/seed2");
  EXPECT_EQ(plan.jobs[3].after, std::vector<std::string>{"a/seed2"});
  EXPECT_EQ(plan.jobs[3].command.back(), "init.from=\"/out/a/seed2\"");
}

TEST_F(PlanTest, RefusesMoreRunsThanAnyoneWants) {
  for (const int64_t seeds : {int64_t{0}, int64_t{10'001}, int64_t{1} << 62}) {
    EXPECT_THROW(make_plan({row("a")}, options(seeds), check), ArgumentError) << seeds;
  }
  const auto refusal = [&](size_t count, int64_t seeds) -> std::string {
    try {
      make_plan(std::vector<Row>(count, row("a")), options(seeds), check);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "no error";
  };
  const std::string taken = "; at most 10000 seeds and 100000 runs are taken";
  EXPECT_EQ(refusal(11, 10'000), folder_.string() + ": a plan of 11 rows with 10000 seeds" + taken);
  EXPECT_EQ(refusal(1, 10'001), folder_.string() + ": a plan of 1 rows with 10001 seeds" + taken);
  EXPECT_EQ(refusal(1, 0), folder_.string() + ": a plan of 1 rows with 0 seeds" + taken);
  EXPECT_EQ(refusal(2, 1), "no error");
}

TEST_F(PlanTest, TellsWhereDataAreNotThoseOfTheKnownValues) {
  Row own = row("own");
  own.set = {"data.name=own"};
  auto common = options(1);
  common.usual_set = {"data.name=usual"};
  common.set = {"data.name=usual"};
  EXPECT_TRUE(make_plan({own, row("a")}, common, check).usual_data.empty());
  common.set = {"data.name=usual", "data.name=mine"};  // the last one wins
  const auto plan = make_plan({own, row("a")}, common, check);
  EXPECT_EQ(plan.data.at("a"), "mine");
  EXPECT_EQ(plan.usual_data.at("a"), "usual");
  EXPECT_EQ(plan.jobs[1].command.back(), "data.name=mine");
}

TEST_F(PlanTest, ARecipeIsAskedForAsTheJobRunsIt) {
  Row one = row("g/a");
  one.set = {"train.lr=0.1"};
  one.cycle = {{"seed_of", {7, "x"}}};
  auto common = options(1);
  common.set = {"train.lr=0.2"};
  const auto recipe = asked_recipe(one, 2, common).values;
  EXPECT_EQ(recipe["train"]["lr"], 0.2);
  EXPECT_EQ(recipe["seed_of"], "x");
  EXPECT_EQ(recipe["seed"], 2);
  EXPECT_EQ(recipe["threads"], 1);
}

TEST(TomlValue, WritesWhatAnOverrideReads) {
  EXPECT_EQ(toml_value(0.1), "0.1");
  EXPECT_EQ(toml_value(7), "7");
  EXPECT_EQ(toml_value(true), "true");
  EXPECT_EQ(toml_value("two words"), "'two words'");
  EXPECT_EQ(toml_value(Json::array({1, 2})), "[1, 2]");
}

TEST_F(PlanTest, APathThatNoOverrideCanHoldIsRefused) {
  auto common = options(1);
  common.out = "/out\xff";
  try {
    make_plan({row("a"), row("b", "quick", {{"init.from", "a"}})}, common, check);
    ADD_FAILURE();
  } catch (const ArgumentError& error) {
    EXPECT_NE(std::string(error.what()).find(": the path is not UTF-8, which --set needs"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(PlanTest, JobsOfARowAreOfAKindAndHaveFilesOfTheirOwn) {
  const auto plan = make_plan({row("g/a")}, options(1), check);
  EXPECT_EQ(plan.jobs[0].kind, "g/a");
  EXPECT_EQ(plan.jobs[0].status, "/out/logs/g/a/seed1.status");
  EXPECT_FALSE(plan.jobs[0].done);
  EXPECT_EQ(plan.data.at("g/a"), "here");
  EXPECT_TRUE(plan.usual_data.empty());
}

TEST_F(PlanTest, SeedsMayBeginElsewhere) {
  auto later = options(2);
  later.first_seed = 11;
  const auto plan = make_plan({row("a")}, later, check);
  ASSERT_EQ(plan.jobs.size(), 2U);
  EXPECT_EQ(plan.jobs[1].name, "a/seed12");
}

TEST_F(PlanTest, ARowMayTakeFewerSeeds) {
  Row few = row("few");
  few.seeds = 1;
  const auto plan = make_plan({few, row("all")}, options(3), check);
  ASSERT_EQ(plan.jobs.size(), 4U);
  EXPECT_EQ(plan.jobs[2].name, "all/seed2");
}

TEST_F(PlanTest, ARowThatCannotRunTakesThoseThatNeedItAlong) {
  Row gone = row("gone");
  gone.set = {"data.name=gone"};
  const auto plan = make_plan({gone, row("next", "quick", {{"k", "gone"}}),
                               row("last", "quick", {{"k", "next"}}), row("free")},
                              options(1), check);
  EXPECT_EQ(plan.missing,
            (std::map<std::string, std::string>{{"gone", "data set gone was not found"},
                                                {"next", "data set gone was not found"},
                                                {"last", "data set gone was not found"}}));
  ASSERT_EQ(plan.jobs.size(), 1U);
  EXPECT_EQ(plan.jobs[0].name, "free/seed1");
}

TEST_F(PlanTest, ARecipeThatMakesNoSenseRefusesThePlan) {
  Row bad = row("bad");
  bad.set = {"data.name=bad"};
  const auto refusal = [&](const Row& wrong) -> std::string {
    try {
      make_plan({row("good"), wrong}, options(1), check);
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(refusal(bad), folder_.string() + ": row bad: bad data");
  bad.set = {"data.=1"};
  EXPECT_EQ(refusal(bad), folder_.string() + ": row bad: --set data.: an empty key");
  bad.set = {};
  bad.cycle = {{"seed.x", {1}}};
  EXPECT_EQ(refusal(bad), folder_.string() + ": row bad: --set seed.x: seed is no table");
  Row absent = row("absent");
  absent.recipe = "nowhere.toml";
  EXPECT_THROW(make_plan({absent}, options(1), check), IoError);
}

}  // namespace
}  // namespace moekit::study
