#include "moekit/study/reproduction.h"

#include <algorithm>
#include <map>

#include "moekit/core/file_lock.h"
#include "moekit/core/schema.h"
#include "moekit/study/check_tables.h"
#include "moekit/study/record.h"
#include "tests/study/study_fixture.h"

namespace moekit::study {
namespace {
namespace fs = std::filesystem;

/// Stands for `moekit train`: row a has value k + 0.1 seed, row b adds a term that changes its sign
/// with the seed. FILE "machine" beside it says what made the run, "shift" moves all values.
constexpr const char* kProgram = R"(#!/bin/sh
k=0
while [ $# -gt 0 ]; do
  case $1 in
    --seed) seed=$2; shift ;;
    --out) out=$2; shift ;;
    --set) case $2 in k=*) k=${2#k=} ;; esac; shift ;;
  esac
  shift
done
here=$(dirname "$0")
echo "$out" >> "$here/started"
[ -f "$here/fail-$seed" ] && { echo "broke at seed $seed" >&2; exit 1; }
[ -f "$out/summary.json" ] && exit 0
echo "$out" >> "$here/trained"
mkdir -p "$out"
shift=$(cat "$here/shift" 2>/dev/null || echo 0)
value=$(awk -v k="$k" -v s="$seed" -v d="$shift" -v out="$out" 'BEGIN {
  wave = out ~ /g\/b/ ? (s % 2 ? 1 : -1) * 0.5 + 0.4 : 0
  printf "%.17g", k + 0.1 * s + wave + d }')
echo "{\"moekit\": \"1\", \"libtorch\": \"2\", \"machine\": \"$(cat "$here/machine")\"}" > "$out/run.json"
echo 'k = 1' > "$out/config.toml"
echo "{\"test\": {\"error\": $value}, \"validation\": {\"error\": $value}}" > "$out/summary.json"
)";

constexpr const char* kSearchFigures =
    "figure = [{ name = \"test_error\", pointer = \"/test/error\", better = \"lower\" }, "
    "{ name = \"validation_error\", pointer = \"/validation/error\", better = \"lower\" }]\n";

class ReproductionTest : public StudyFolder {
 protected:
  void SetUp() override {
    StudyFolder::SetUp();
    write_file_atomic(folder_ / "train.sh", kProgram);
    fs::permissions(folder_ / "train.sh", fs::perms::owner_all);
    write_file_atomic(folder_ / "machine", "m1");
  }
  ReproductionOptions options(int64_t seeds, const std::string& out = "out") const {
    ReproductionOptions made;
    made.seeds = seeds;
    made.parallel = 2;
    made.quiet = true;
    made.plan.program = folder_ / "train.sh";
    made.plan.folder = folder_;
    made.plan.out = folder_ / out;
    return made;
  }
  static RecipeKnowledge recipes() {
    return {[](const ConfigTree&) { return RecipeFacts{}; },
            [](const ConfigTree&, const fs::path&) { return std::string(); }};
  }
  std::string read_text(const std::string& name) const {
    return read_file(folder_ / name, 1 << 20);
  }
};

TEST_F(ReproductionTest, RunsRowsAndJudgesThem) {
  const Study study = read(kTwoRows);
  const Outcome outcome = reproduce(study, options(5), recipes());
  ASSERT_EQ(outcome.rows.size(), 2U);
  EXPECT_EQ(outcome.seeds, 5);
  EXPECT_NEAR(outcome.rows[0].cells.at("test_error").ours.mean, 0.3, 1e-12);
  ASSERT_EQ(outcome.claims.size(), 1U);
  EXPECT_EQ(outcome.claims[0].verdict, Verdict::kUndecided);
  auto table_only = options(5);
  table_only.table_only = true;
  fs::remove(folder_ / "trained");
  EXPECT_EQ(to_markdown(study, reproduce(study, table_only, recipes())),
            to_markdown(study, outcome));
  EXPECT_FALSE(fs::exists(folder_ / "trained"));
}

TEST_F(ReproductionTest, StartsNothingForRunsThatAreThere) {
  const Study study = read(kTwoRows);
  const Outcome first = reproduce(study, options(5), recipes());
  fs::remove(folder_ / "started");
  fs::remove(folder_ / "out/g/b/seed4/summary.json");
  EXPECT_EQ(to_markdown(study, reproduce(study, options(5), recipes())), to_markdown(study, first));
  EXPECT_EQ(read_text("started"), (folder_ / "out/g/b/seed4\n").string());
  // Another one's run and a damaged one are their jobs' to judge.
  RecipeKnowledge strict = recipes();
  strict.why_other = [](const ConfigTree&, const fs::path& run) -> std::string {
    if (run.filename() == "seed2") throw FormatError("damaged");
    return run.filename() == "seed3" ? "made by another recipe" : "";
  };
  fs::remove(folder_ / "started");
  const Outcome judged = reproduce(study, options(3), strict);
  EXPECT_EQ(judged.rows[0].what_is_missing(),
            "seed 2: damaged: damaged; seed 3: made by another recipe");
  const std::string started = read_text("started");
  for (const char* run : {"g/a/seed2", "g/b/seed2", "g/a/seed3", "g/b/seed3"}) {
    EXPECT_NE(started.find(run), std::string::npos) << run;
  }
  EXPECT_EQ(started.find("seed1"), std::string::npos);
}

TEST_F(ReproductionTest, AddsSeedsUntilAllIsDecidedWithTheResultOfAskingForThemAtOnce) {
  const Study study = read(kTwoRows);
  auto adding = options(5);
  adding.until_decided = true;
  adding.max_seeds = 40;
  const Outcome outcome = reproduce(study, adding, recipes());
  EXPECT_EQ(outcome.claims[0].verdict, Verdict::kHeld);
  EXPECT_GT(outcome.seeds, 5);
  EXPECT_LT(outcome.seeds, 40);
  EXPECT_GT(outcome.looks, 1U);
  Outcome at_once = reproduce(study, options(outcome.seeds, "other"), recipes());
  at_once.looks = outcome.looks;
  EXPECT_EQ(to_markdown(study, at_once), to_markdown(study, outcome));
  auto few = options(5, "few");
  few.until_decided = true;
  few.max_seeds = 6;
  const Outcome spent = reproduce(study, few, recipes());
  EXPECT_EQ(spent.seeds, 6);
  EXPECT_EQ(spent.claims[0].verdict, Verdict::kUndecided);
}

TEST_F(ReproductionTest, AFailedSeedIsNamedAndItsClaimNotTested) {
  const Study study = read(kTwoRows);
  write_file_atomic(folder_ / "fail-3", "");
  const Outcome outcome = reproduce(study, options(5), recipes());
  EXPECT_EQ(outcome.failures.size(), 2U);
  EXPECT_EQ(outcome.rows[0].what_is_missing(), "seed 3: failed: broke at seed 3");
  EXPECT_EQ(outcome.claims[0].verdict, Verdict::kNotTested);
  auto allowed = options(7);
  allowed.allow_missing = true;
  EXPECT_EQ(reproduce(study, allowed, recipes()).claims[0].checks[0].effect.count, 6U);
}

TEST_F(ReproductionTest, SearchesSettingsFirst) {
  const Study study = read(concat(kSearchFigures, kTwoRows,
                                  "[[tune]]\nrows = [\"g/a\"]\ngrid = { k = [7, 3, 5] }\nfigure = "
                                  "\"validation_error\"\nseeds = "
                                  "2\n"));
  const Outcome outcome = reproduce(study, options(5), recipes());
  EXPECT_EQ(outcome.rows[0].tuned, "k=3");
  EXPECT_EQ(outcome.rows[0].trials, 3);
  EXPECT_NEAR(outcome.rows[0].cells.at("test_error").ours.mean, 3.3, 1e-12);
  EXPECT_TRUE(fs::exists(folder_ / "out/tune/g/a/3/seed10002"));
  const auto text = to_markdown(study, outcome);
  EXPECT_NE(text.find("| g/a | `k=3` | 1003.1500 | 2 | **chosen** |"), std::string::npos) << text;
  EXPECT_NE(
      text.find("| verdict | claim | source | effect, 95 % interval, seeds |\n|---|---|---|---|\n"
                "| **"),
      std::string::npos);
  EXPECT_NE(text.find("UNEQUAL TUNING: 3 trials of 6 runs against 0 of 0"), std::string::npos);
}

TEST_F(ReproductionTest, WhatTheStudySetsIsNotTheUsers) {
  const Study study = read(concat(kSearchFigures, kTwoRows,
                                  "[[tune]]\nrows = [\"g/a\"]\ngrid = { k = [7, 3, 5] }\nfigure = "
                                  "\"validation_error\"\nseeds = "
                                  "2\n"));
  const auto refused = [&](const char* set) -> std::string {
    auto own = options(5);
    own.plan.set = {set};
    try {
      reproduce(study, own, recipes());
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refused("k=3"), "--set: k is what the study searches for row g/a");
  EXPECT_EQ(refused("seed=4"),
            "--set: seed is set by the study in every run; seeds are chosen with --seeds");
  EXPECT_EQ(refused("threads=2"),
            "--set: threads is set by the study in every run; seeds are chosen with --seeds");
  EXPECT_FALSE(fs::exists(folder_ / "started"));
  EXPECT_EQ(refused("other=3"), "");
}

TEST_F(ReproductionTest, ARowWhoseSearchFoundNothingIsMissingAndTheOthersStand) {
  const Study study = read(concat(kSearchFigures, kTwoRows,
                                  "[[tune]]\nrows = [\"g/a\"]\ngrid = { k = [7, 3] }\nfigure = "
                                  "\"validation_error\"\nseeds = 2\n"));
  write_file_atomic(folder_ / "fail-10002", "");
  const Outcome outcome = reproduce(study, options(5), recipes());
  EXPECT_EQ(outcome.rows[0].what_is_missing(),
            "no point of its search is finished: seed 10002: failed: broke at seed 10002");
  EXPECT_EQ(outcome.rows[1].folders().size(), 5U);
  EXPECT_EQ(outcome.claims[0].verdict, Verdict::kNotTested);
}

TEST_F(ReproductionTest, ARunThatStartsFromOneThatIsMadeAnewIsLookedAtAgain) {
  const Study study = read(concat(kTwoRows,
                                  "[[row]]\nname = \"g/c\"\ntier = \"quick\"\nrecipe = "
                                  "\"a.toml\"\nneeds = { from = \"g/a\" }\n"));
  reproduce(study, options(5), recipes());
  fs::remove(folder_ / "started");
  fs::remove(folder_ / "out/g/a/seed4/summary.json");
  reproduce(study, options(5), recipes());
  const std::string started = read_text("started");
  EXPECT_NE(started.find("g/c/seed4"), std::string::npos) << started;
  EXPECT_EQ(started.find("g/c/seed3"), std::string::npos) << started;
}

TEST(CommandOf, SaysAllThatWasAskedFor) {
  Request request;
  request.paper = "x";
  request.tier = "quick";
  EXPECT_EQ(command_of(request, 5), "moekit reproduce x --quick --seeds 5");
  request.rows = "a/*";
  request.set = {"train.lr=1e-3", "data.name=two words"};
  request.data = true;
  request.allow_missing = true;
  EXPECT_EQ(command_of(request, 3),
            "moekit reproduce x --quick --seeds 3 --rows 'a/*' --set train.lr=1e-3 --set "
            "'data.name=two words' --data DATA --allow-missing");
  Request more;
  more.paper = "x";
  more.tier = "full";
  more.until_decided = true;
  more.max_seeds = 9;
  EXPECT_EQ(command_of(more, 7), "moekit reproduce x --full --until-decided --max-seeds 9");
  more.seeds = 4;
  EXPECT_EQ(command_of(more, 7),
            "moekit reproduce x --full --seeds 4 --until-decided --max-seeds 9");
}

TEST_F(ReproductionTest, OneStudyAFolderAtATime) {
  const Study study = read(kTwoRows);
  fs::create_directories(folder_ / "out");
  const FileLock other(folder_ / "out/study.lock", "a study");
  try {
    reproduce(study, options(5), recipes());
    ADD_FAILURE() << "two studies in one folder";
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("a study in " + (folder_ / "out").string()),
              std::string::npos)
        << error.what();
  }
}

TEST_F(ReproductionTest, SeedsAreAddedOnlyWhereTheyCanDecide) {
  const Study study = read(concat(kTwoRows, "\n"));
  Study capped = study;
  for (auto& row : capped.row) row.seeds = 5;
  auto adding = options(5);
  adding.until_decided = true;
  adding.max_seeds = 40;
  EXPECT_EQ(reproduce(capped, adding, recipes()).looks, 1U);
  adding.max_seeds = 4;
  const auto refused = [&](const ReproductionOptions& wrong) -> std::string {
    try {
      reproduce(study, wrong, recipes());
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(refused(adding), "reproduce: --max-seeds 4 is below the 5 seeds to begin with");
  auto none = options(5);
  none.pattern = "x*";
  EXPECT_EQ(refused(none), "reproduce: --rows \"x*\" fits no row of tier quick");
}

class RecordTest : public ReproductionTest {
 protected:
  /// Writes results.md and results.json of five seeds.
  Study commit() {
    Study study = read(kTwoRows);
    Outcome outcome = reproduce(study, options(5), recipes());
    outcome.request.paper = "x";
    outcome.request.tier = "quick";
    outcome.command = command_of(outcome.request, outcome.seeds);
    write_file_atomic(folder_ / "results.json", dump_text(to_record(outcome), 1));
    write_file_atomic(folder_ / "results.md", to_markdown(study, outcome));
    return study;
  }
  TableCheck check(const Study& study, size_t sample = 4) {
    std::mt19937_64 generator(1);
    return check_tables(study, folder_ / "results.md", options(1, "again"), recipes(), sample,
                        generator);
  }
};

TEST_F(RecordTest, GivesTheTableAgain) {
  const Study study = commit();
  const Outcome told = read_record(study, folder_ / "results.json");
  EXPECT_EQ(to_markdown(study, told), read_text("results.md"));
  EXPECT_EQ(to_record(told), read_json(folder_ / "results.json"));
  const TableCheck found = check(study);
  EXPECT_TRUE(found.sound()) << found.trouble;
  EXPECT_EQ(found.repeated.size(), 4U);
  EXPECT_EQ(check(study, 100).repeated.size(), 10U);
}

TEST_F(RecordTest, ATableThatWasEditedIsNotSound) {
  const Study study = commit();
  std::string text = read_text("results.md");
  const auto at = text.find("0.3000");
  ASSERT_NE(at, std::string::npos);
  text[at + 2] = '9';
  write_file_atomic(folder_ / "results.md", text);
  const TableCheck found = check(study);
  EXPECT_FALSE(found.sound());
  EXPECT_EQ(
      found.trouble,
      "line 20 is \"| g/a | 0.5000 | - | 0.9000 ± 0.1581 [0.1037, 0.4963] | 5 | differs |\", its "
      "record gives \"| g/a | 0.5000 | - | 0.3000 ± 0.1581 [0.1037, 0.4963] | 5 | differs |\"");
}

TEST_F(RecordTest, ARunThatGivesOtherFiguresIsNotSound) {
  const Study study = commit();
  write_file_atomic(folder_ / "shift", "0.01");
  const TableCheck found = check(study);
  ASSERT_FALSE(found.sound());
  EXPECT_EQ(found.deviations.size(), 4U);
  EXPECT_NEAR(found.deviations[0].found - found.deviations[0].recorded, 0.01, 1e-9);
  EXPECT_EQ(found.deviations[0].figure, "test_error");
  EXPECT_EQ(found.deviations[0].run, found.repeated[0]);
  EXPECT_NEAR(found.deviations[0].allowed, 1e-4, 2e-4);
  EXPECT_EQ(found.maker,
            "made by moekit 1, libtorch 2, on m1, command moekit reproduce x --quick "
            "--seeds 5");
  // Elsewhere two standard errors are allowed: 2 * 0.158 / sqrt(5) = 0.14 for row a.
  write_file_atomic(folder_ / "machine", "m2");
  EXPECT_TRUE(check(study, 10).sound());
  write_file_atomic(folder_ / "shift", "5");
  EXPECT_EQ(check(study, 10).deviations.size(), 10U);
}

TEST_F(RecordTest, ARunThatFailsIsNotSound) {
  const Study study = commit();
  write_file_atomic(folder_ / "fail-2", "");
  const TableCheck found = check(study, 10);
  EXPECT_FALSE(found.sound());
  EXPECT_TRUE(found.deviations.empty());
  std::vector<std::string> failed = found.failed;
  std::sort(failed.begin(), failed.end());
  EXPECT_EQ(failed, (std::vector<std::string>{"g/a/seed2: seed 2: failed: broke at seed 2",
                                              "g/b/seed2: seed 2: failed: broke at seed 2"}));
}

TEST_F(RecordTest, TellsTheFirstLineThatDiffers) {
  const Study study = commit();
  const std::string text = read_text("results.md");
  const auto trouble_of = [&](const std::string& edited) {
    write_file_atomic(folder_ / "results.md", edited);
    return check(study, 1).trouble;
  };
  EXPECT_EQ(trouble_of(text), "");
  EXPECT_EQ(trouble_of("x" + text), "line 1 is \"x# t\", its record gives \"# t\"");
  EXPECT_EQ(trouble_of(text.substr(0, 4)), "line 2 is nothing, its record gives \"\"");
  const std::string more = text + "more\n";
  const auto lines = std::count(text.begin(), text.end(), '\n');
  EXPECT_EQ(trouble_of(more), concat("line ", lines + 1, " is \"more\", its record gives nothing"));
}

TEST_F(RecordTest, WhatACheckBeforeHasTrainedIsNotTakenForARepetition) {
  const Study study = commit();
  write_file_atomic(folder_ / "shift", "0.01");
  EXPECT_FALSE(check(study).sound());
  fs::remove(folder_ / "shift");
  EXPECT_TRUE(check(study).sound());
  EXPECT_TRUE(fs::exists(folder_ / "again/check-1"));  // for a look at what differed
  EXPECT_FALSE(fs::exists(folder_ / "again/check-2"));
}

TEST_F(RecordTest, RunsOfTwoMachinesMakeNoTable) {
  const Study study = read(kTwoRows);
  reproduce(study, options(3), recipes());
  write_file_atomic(folder_ / "machine", "m2");
  fs::remove_all(folder_ / "out/g/b/seed2");
  Outcome outcome = reproduce(study, options(3), recipes());
  EXPECT_EQ(makers_of(outcome.rows).size(), 2U);
  const std::string both = "moekit 1, libtorch 2, on m1; moekit 1, libtorch 2, on m2";
  try {
    to_record(outcome);
    ADD_FAILURE();
  } catch (const ArgumentError& error) {
    EXPECT_EQ(error.what(), "the runs were not made by one version on one machine (" + both +
                                "): no table is written of them; run them again in another --out");
  }
  // Whoever writes no table is told, too.
  EXPECT_EQ(outcome.notes,
            std::vector<std::string>{"Runs of several versions or machines stand together (" +
                                     both + "): verdicts may rest on that difference."});
}

TEST_F(RecordTest, DamagedRecordsAreRefusedWithFileAndKey) {
  const Study study = commit();
  const std::string file = (folder_ / "results.json").string();
  const Json good = read_json(file);
  const auto refused = [&](const Json& json) -> std::string {
    write_json(folder_ / "results.json", json);
    try {
      read_record(study, folder_ / "results.json");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refused(good), "");
  for (const char* key : {"/command", "/rows", "/rows/g~1a/seeds", "/rows/g~1a/values", "/maker",
                          "/maker/machine", "/looks", "/trials"}) {
    Json damaged = good;
    damaged[Json::json_pointer(key)] = -1;
    EXPECT_EQ(refused(damaged).rfind(file, 0), 0U) << key;
  }
  Json longer = good;
  longer["rows"]["g/a"]["values"]["test_error"].push_back(1);
  EXPECT_EQ(refused(longer), file + ": row g/a: values.test_error has 6 numbers for 5 seeds");
  Json foreign = good;
  foreign["rows"]["g/x"] = good["rows"]["g/a"];
  EXPECT_EQ(refused(foreign), file + ": tells of rows that the study does not have");
  // What another command would have given, or a choice among the results.
  const auto with = [&](const std::map<const char*, Json>& values) {
    Json changed = good;
    for (const auto& [pointer, value] : values) changed[Json::json_pointer(pointer)] = value;
    return refused(changed);
  };
  const std::string usual = "moekit reproduce x --quick --seeds 5";
  const std::string other = "moekit reproduce x --full --seeds 500";
  EXPECT_EQ(with({{"/command", other}}),
            file + ": command is \"" + other + "\", its request gives \"" + usual + "\"");
  EXPECT_EQ(with({{"/request/rows", "g/a"}}), file + ": command is \"" + usual +
                                                  "\", its request gives \"moekit reproduce x "
                                                  "--quick --seeds 5 --rows g/a\"");
  EXPECT_EQ(with({{"/tier", "full"}}), file + ": request is not of these tables");
  EXPECT_EQ(with({{"/allow_missing", true}}), file + ": request is not of these tables");
  EXPECT_EQ(with({{"/request/set", {"k=3"}}, {"/command", usual + " --set k=3"}}),
            file + ": set does not end with the overrides of the request");
  EXPECT_EQ(with({{"/request/set", {"k=3"}},
                  {"/set", {"k=3", "k=4"}},
                  {"/command", usual + " --set k=3"}}),
            file + ": set does not end with the overrides of the request");
  EXPECT_EQ(with({{"/request/set", {"k=3"}},
                  {"/set", {"k=4", "k=3"}},
                  {"/command", usual + " --set k=3"}}),
            "");
  EXPECT_EQ(with({{"/seeds", 4}, {"/command", "moekit reproduce x --quick --seeds 4"}}),
            file + ": seeds is 4; the request asks for 5");
  EXPECT_EQ(with({{"/rows/g~1a/seeds", {1, 1, 2, 3, 4}}}),
            file + ": row g/a: seed 1 stands at place 2");
  Json fewer = good;
  fewer["rows"].erase("g/b");
  EXPECT_EQ(refused(fewer), file + ": rows lacks g/b, which the command runs");
  Json chosen = good;
  chosen["rows"]["g/a"]["seeds"].erase(4);
  chosen["rows"]["g/a"]["values"]["test_error"].erase(4);
  EXPECT_EQ(refused(chosen), file + ": row g/a has 4 seeds, the command runs 5");
}

TEST_F(RecordTest, SeedsThatWereAddedStayWithinWhatWasAskedFor) {
  const Study study = commit();
  const std::string file = (folder_ / "results.json").string();
  const Json good = read_json(file);
  const auto with_bounds = [&](int64_t least, int64_t most) -> std::string {
    Json changed = good;
    changed["request"]["until_decided"] = true;
    changed["request"]["seeds"] = least;
    changed["request"]["max_seeds"] = most;
    Request request;
    bind_state(changed["request"], "request", request);
    changed["command"] = command_of(request, 5);
    write_json(file, changed);
    try {
      read_record(study, file);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(with_bounds(5, 5), "");
  EXPECT_EQ(with_bounds(2, 9), "");
  EXPECT_EQ(with_bounds(6, 9), file + ": seeds is 5; the request asks for 6");
  EXPECT_EQ(with_bounds(2, 4), file + ": seeds is 5; the request asks for 2");
}

TEST_F(RecordTest, ARowThatTheStudyGivesFewerSeedsHasThem) {
  Study study = commit();
  study.row[1].seeds = 3;
  const std::string file = (folder_ / "results.json").string();
  EXPECT_THROW(read_record(study, file), FormatError);
  Json changed = read_json(file);
  changed["rows"]["g/b"]["seeds"] = {1, 2, 3};
  changed["rows"]["g/b"]["values"]["test_error"] = {1, 2, 3};
  write_json(file, changed);
  EXPECT_EQ(read_record(study, file).rows[1].runs.seeds.size(), 3U);
}

}  // namespace
}  // namespace moekit::study
