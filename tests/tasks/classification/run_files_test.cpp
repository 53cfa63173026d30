#include "moekit/tasks/classification/run_files.h"

#include <gtest/gtest.h>

#include <csignal>
#include <functional>

#include "moekit/checkpoint/manifest.h"
#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/safetensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/core/json.h"
#include "moekit/core/work_status.h"
#include "moekit/models/model_io.h"
#include "moekit/run/report.h"
#include "moekit/tasks/classification/task.h"

namespace moekit::classification {
namespace {
namespace fs = std::filesystem;
using run::list_checkpoints;
using run::RunStatus;

constexpr const char* kRecipe = R"(
data = { name = "synthetic-clusters", options = { num_train = 200, num_test = 100 } }
train = { epochs = 4, batch_size = 50, checkpoint_steps = 3, patience = 9 }
[model]
num_experts = 4
expert = { kind = "mlp", intermediate_size = 8 }
)";

/// Runs whose files are damaged in every way.
class RunFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    ConfigTree tree = parse_toml(kRecipe, "test");
    tree.values["data"]["validation"] = 40;
    bind_config(tree, config_);
    fs::remove_all(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  RunStatus run(const std::string& name, bool resume = false) {
    run::RunOptions options{folder_ / name, "", resume, true};
    options.notice = [&](const std::string& text) { notices_ += text + "\n"; };
    return run_recipe(config_, options);
  }
  /// Runs to the end of an interrupted step `steps` times.
  void run_interrupted(const std::string& name, int steps) {
    for (int i = 0; i < steps; ++i) {
      const InterruptGuard guard;
      std::raise(SIGINT);
      ASSERT_EQ(run(name, i > 0), RunStatus::kInterrupted);
    }
  }
  RunStatus finish(const std::string& name) {
    const InterruptGuard calm;
    return run(name, true);
  }
  void expect_as_whole(const std::string& name) {
    for (const char* file : {"model/model.safetensors", "metrics.jsonl", "trace.safetensors"}) {
      EXPECT_EQ(read_file(folder_ / "whole" / file), read_file(folder_ / name / file)) << file;
    }
  }
  fs::path newest(const std::string& name) {
    return list_checkpoints(folder_ / name).rbegin()->second;
  }
  static void flip_bit(const fs::path& file) {
    std::string bytes = read_file(file);
    bytes[bytes.size() - 5] = static_cast<char>(bytes[bytes.size() - 5] ^ 1);
    write_file_atomic(file, bytes);
  }
  static std::string message_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const FormatError& error) {
      return error.what();
    }
    return "";
  }
  std::string report_message(const std::string& name) {
    return message_of([&] {
      report::render(run::make_report(
          run::group_by_recipe({folder_ / name}),
          [](const fs::path&) -> const run::Task& { return task(); }, ""));
    });
  }
  fs::path folder_ = fs::temp_directory_path() / concat("moekit-run-files-", ::getpid());
  Config config_;
  std::string notices_;
};

TEST_F(RunFilesTest, ADamagedNewestCheckpointFallsBackToTheOneBefore) {
  run("whole");
  const std::vector<std::pair<const char*, std::function<void(const fs::path&)>>> damages = {
      {"weights", [](const fs::path& path) { flip_bit(path / "model.safetensors"); }},
      {"moments", [](const fs::path& path) { flip_bit(path / "optimizer.safetensors"); }},
      {"state", [](const fs::path& path) { flip_bit(path / "state.json"); }},
      {"gone", [](const fs::path& path) { fs::remove(path / "state.json"); }},
      {"empty", [](const fs::path& path) {
         fs::remove_all(path);
         fs::create_directories(path);
       }}};
  for (const auto& [name, damage] : damages) {
    run_interrupted(name, 5);
    const fs::path damaged = newest(name);
    EXPECT_EQ(damaged.filename(), "step-5");
    damage(damaged);
    notices_.clear();
    ASSERT_EQ(finish(name), RunStatus::kFinished) << name;
    EXPECT_NE(notices_.find(damaged.string() + "/"), std::string::npos) << notices_;
    EXPECT_NE(notices_.find("going on from " + (damaged.parent_path() / "step-4").string()),
              std::string::npos)
        << notices_;
    EXPECT_TRUE(fs::exists(damaged.string() + ".damaged"));
    expect_as_whole(name);
  }
}

TEST_F(RunFilesTest, ANewestCheckpointThatDoesNotFitFallsBackToo) {
  run("whole");
  const auto edit_state = [](const fs::path& path, const char* pointer, const Json& value) {
    Json state = read_json(path / "state.json");
    state[Json::json_pointer(pointer)] = value;
    write_json(path / "state.json", state);
  };
  const std::vector<std::pair<const char*, std::function<void(const fs::path&)>>> damages = {
      {"no-moments",
       [](const fs::path& path) {
         checkpoint::write_safetensors(path / "optimizer.safetensors", checkpoint::MemoryTensors());
       }},
      {"no-weights",
       [](const fs::path& path) {
         checkpoint::write_safetensors(path / "model.safetensors", checkpoint::MemoryTensors());
       }},
      {"no-description", [](const fs::path& path) { write_json(path / "config.json", {3}); }},
      {"a-line-without-step",
       [&](const fs::path& path) {
         edit_state(path, "/metrics", {{{"epoch", 1}}});
       }},
      {"a-line-of-the-future",
       [&](const fs::path& path) {
         edit_state(path, "/metrics", {{{"step", 6}}});
       }},
      {"a-line-twice",
       [&](const fs::path& path) {
         edit_state(path, "/metrics", {{{"step", 4}}, {{"step", 4}}});
       }},
      {"a-negative-epoch", [&](const fs::path& path) {
         edit_state(path, "/metrics", {{{"step", 4}, {"epoch", -5}}});
       }}};
  for (const auto& [name, damage] : damages) {
    run_interrupted(name, 5);
    const fs::path damaged = newest(name);
    damage(damaged);
    checkpoint::write_manifest(damaged);  // its files are what it says: they do not fit
    notices_.clear();
    ASSERT_EQ(finish(name), RunStatus::kFinished) << name;
    EXPECT_NE(notices_.find("going on from " + (damaged.parent_path() / "step-4").string()),
              std::string::npos)
        << name << ": " << notices_;
    expect_as_whole(name);
  }
}

TEST_F(RunFilesTest, AFolderWithTheRestOfARunIsNotNew) {
  run("a");
  fs::remove(folder_ / "a/config.toml");
  for (const bool resume : {false, true}) {
    try {
      run("a", resume);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find("of a run, but no config.toml"), std::string::npos)
          << error.what();
    }
  }
  EXPECT_TRUE(fs::exists(folder_ / "a/summary.json") && fs::exists(folder_ / "a/model"));
}

TEST_F(RunFilesTest, OptimizerStepsBeyondTheRunsAreRefused) {
  run_interrupted("a", 3);
  const fs::path path = newest("a");
  checkpoint::MemoryTensors changed;
  {
    const auto source = checkpoint::open_tensors(path / "optimizer.safetensors");
    for (const auto& name : source->names()) {
      auto tensor = source->read(name).clone();
      if (name.ends_with(".step")) tensor.fill_(4);
      changed.add(name, tensor);
    }
  }
  checkpoint::write_safetensors(path / "optimizer.safetensors", changed);
  checkpoint::write_manifest(path);
  finish("a");
  EXPECT_NE(notices_.find("must be 1..3, the steps of the run; got 4"), std::string::npos)
      << notices_;
}

TEST_F(RunFilesTest, ReportCountsARunOnce) {
  run("a");
  EXPECT_THROW(run::group_by_recipe({folder_ / "a", folder_ / "." / "a"}), ArgumentError);
  EXPECT_EQ(run::group_by_recipe({folder_ / "a"}).size(), 1U);
}

TEST_F(RunFilesTest, RefusesWhenNoCheckpointIsSound) {
  run_interrupted("a", 2);
  for (const auto& [step, path] : list_checkpoints(folder_ / "a")) {
    flip_bit(path / "model.safetensors");
  }
  const auto message = message_of([&] { finish("a"); });
  EXPECT_NE(message.find("no checkpoint is sound"), std::string::npos) << message;
  EXPECT_NE(message.find("step-2/model.safetensors: is damaged"), std::string::npos) << message;
  EXPECT_EQ(list_checkpoints(folder_ / "a").size(), 2U);  // left for their owner
}

TEST_F(RunFilesTest, CheckpointsWithoutAManifestLoadAndSaySo) {
  run("whole");
  run_interrupted("a", 3);
  for (const auto& [step, path] : list_checkpoints(folder_ / "a")) {
    fs::remove(path / "manifest.json");
  }
  finish("a");
  EXPECT_NE(notices_.find("step-3: has no manifest.json: loaded unchecked"), std::string::npos);
  expect_as_whole("a");
}

TEST_F(RunFilesTest, KeepsTwoCheckpointsWhileItRunsAndTheNewestAtTheEnd) {
  run_interrupted("a", 4);
  EXPECT_EQ(list_checkpoints(folder_ / "a").size(), 2U);
  finish("a");
  EXPECT_EQ(list_checkpoints(folder_ / "a").size(), 1U);
}

TEST_F(RunFilesTest, ADamagedModelIsRefusedByItsChecksum) {
  run("a");
  flip_bit(folder_ / "a/model/model.safetensors");
  EXPECT_NE(message_of([&] {
              task().evaluate(folder_ / "a", "");
            }).find("model/model.safetensors: is damaged"),
            std::string::npos);
  EXPECT_NE(message_of([&] { task().inspect(folder_ / "a", "", ""); }).find("is damaged"),
            std::string::npos);
  config_.init.experts_from = (folder_ / "a").string();
  EXPECT_NE(message_of([&] { run("b"); }).find("is damaged"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "b"));
}

TEST_F(RunFilesTest, CleansUpWhatADeathInAnyMomentLeaves) {
  run("whole");
  run_interrupted("a", 4);
  const fs::path checkpoints = folder_ / "a/checkpoints";
  // Being written, being removed, being replaced where a file system cannot exchange.
  for (const char* name : {"step-5.tmp", "step-2.tmp", "step-1.old.tmp"}) {
    fs::create_directories(checkpoints / name);
    write_file_atomic(checkpoints / name / "config.json", "{");
  }
  // Half removed by a version that did not rename first.
  fs::create_directories(checkpoints / "step-1");
  write_file_atomic(checkpoints / "step-1/model.safetensors", "x");
  fs::create_directories(folder_ / "a/model.tmp");
  for (const char* name : {"metrics.jsonl.tmp", "summary.json.tmp", "trace.safetensors.tmp"}) {
    write_file_atomic(folder_ / "a" / name, "{");
  }
  write_file_atomic(folder_ / "a/mine.tmp", "of the user");
  write_file_atomic(checkpoints / "notes.tmp", "of the user");
  ASSERT_EQ(finish("a"), RunStatus::kFinished);
  expect_as_whole("a");
  for (const auto& entry : fs::recursive_directory_iterator(folder_ / "a")) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(!name.ends_with(".tmp") || name == "mine.tmp" || name == "notes.tmp") << name;
  }
  EXPECT_TRUE(fs::exists(folder_ / "a/mine.tmp") && fs::exists(checkpoints / "notes.tmp"));
  EXPECT_FALSE(fs::exists(checkpoints / "step-1"));
}

TEST_F(RunFilesTest, InspectAndReportPassOverAHalfRemovedCheckpoint) {
  config_.train.loop.keep_every = 1;
  run("a");
  const auto kept = list_checkpoints(folder_ / "a");
  ASSERT_EQ(kept.size(), 4U);
  fs::remove(kept.begin()->second / "config.json");
  const Json inspected = task().inspect(folder_ / "a", "", "");
  EXPECT_EQ(inspected["layers"][0]["saturation_over_time"].size(), 3U);
  EXPECT_EQ(report_message("a"), "");
}

TEST_F(RunFilesTest, RefusesCountersThatNoRunHas) {
  run_interrupted("a", 3);
  const fs::path path = newest("a");
  const Json good = read_json(path / "state.json");
  // Without manifests, and with one checkpoint: what is refused is the content.
  for (const auto& [step, other] : list_checkpoints(folder_ / "a")) {
    fs::remove(other / "manifest.json");
    if (other != path) fs::remove_all(other);
  }
  const auto refused = [&](const char* pointer, const Json& value, const std::string& wanted) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    write_json(path / "state.json", bad);
    const auto message = message_of([&] { finish("a"); });
    EXPECT_NE(message.find((path / "state.json").string()), std::string::npos)
        << pointer << message;
    EXPECT_NE(message.find(wanted), std::string::npos) << pointer << ": " << message;
  };
  refused("/trainer", nullptr, "trainer must be an object; got null");
  refused("/trainer/step", nullptr, "trainer.step must be a whole number 0..2^62; got null");
  refused("/trainer/step", -3, "got -3");
  refused("/trainer/step", 5, "trainer.step must be 3, as in the folder's name; got 5");
  refused("/trainer/step", 18446744073709551615U, "got 18446744073709551615");
  refused("/trainer/epoch", 1000000, "must be 0 and 3 at step 3; got 1000000 and 3");
  refused("/trainer/batch", 2.5, "got 2.5");
  refused("/trainer/seen", 0, "trainer.seen must be above 0 after 3 steps of an epoch; got 0");
  refused("/trainer/loss_sum", "x", "trainer.loss_sum must be a finite number; got \"x\"");
  refused("/trainer/sums", {{"wrong", nullptr}}, "trainer.sums: wrong must be a finite number");
  refused("/trainer/stopped_early", 1, "trainer.stopped_early must be true or false; got 1");
  refused("/trainer", {{"step", 3}}, "lacks trainer.epoch");
  refused("/metrics", {{"a", 1}}, "metrics must be a list");
  refused("/metrics", {{{"step", 1}}, {{"step", 9}}}, "metrics must stand at rising steps up to 3");
  refused("/metrics", Json::array({3}), "metrics[0] must be an object; got 3");
  refused("/callbacks/patience/tests", -1, "callbacks.patience: tests must be");
  refused("/callbacks/patience", Json::object(), "callbacks.patience: lacks tests");
  refused("/problem", 7, "problem must be an object; got 7");
  write_json(path / "state.json", good);
  EXPECT_EQ(finish("a"), RunStatus::kFinished);
}

TEST_F(RunFilesTest, ReportNamesFileKeyAndValueOfADamagedSummary) {
  run("a");
  const fs::path file = folder_ / "a/summary.json";
  const Json good = read_json(file);
  const auto refused = [&](const Json& bad, const std::string& wanted) {
    write_json(file, bad);
    const auto message = report_message("a");
    EXPECT_EQ(message, file.string() + ": " + wanted);
  };
  const auto with = [&](const char* pointer, const Json& value) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    return bad;
  };
  refused(Json::object(), "lacks parameters");
  refused(Json::array(), "must be an object; got a list");
  refused(nullptr, "must be an object; got null");
  refused(with("/seconds", "long"), "seconds must be a finite number from 0; got \"long\"");
  refused(with("/parameters", -1), "parameters must be a whole number 0..2^62; got -1");
  refused(with("/test", 3), "test must be an object; got 3");
  refused(with("/test/error", 7), "test.error must be a finite number from 0 to 1; got 7");
  refused(with("/test/layers/mixture/usage", {{"a", 1}}),
          "test.layers.mixture.usage must be a list; got an object");
  refused(with("/alignment", {{"router", {{"label", {1, 2}}}}}),
          "alignment.router.label[0] must be a list; got 1");
  write_file_atomic(file, "{\"seconds\": ");
  EXPECT_EQ(report_message("a"), file.string() + ": is no JSON");
}

TEST_F(RunFilesTest, ReportNamesLineKeyAndValueOfDamagedMetrics) {
  run("a");
  const fs::path file = folder_ / "a/metrics.jsonl";
  auto lines = read_json_lines(file);
  const auto message_with = [&](const Json& second) {
    auto bad = lines;
    bad[1] = second;
    run::write_metrics(folder_ / "a", bad);
    return report_message("a");
  };
  const std::string where = file.string() + ":2: ";
  EXPECT_EQ(message_with(Json::object()), where + "lacks epoch");
  EXPECT_EQ(message_with(3), where + "must be an object; got 3");
  const auto with = [&](const char* pointer, const Json& value) {
    Json bad = lines[1];
    bad[Json::json_pointer(pointer)] = value;
    return message_with(bad);
  };
  EXPECT_EQ(with("/epoch", "two"), where + "epoch must be a whole number 0..2^62; got \"two\"");
  EXPECT_EQ(with("/test/layers", 1), where + "test.layers must be an object; got 1");
  EXPECT_EQ(with("/test/layers/mixture/usage/0", "x"),
            where + "test.layers.mixture.usage[0] must be a number from 0 or null; got \"x\"");
  // What is no number is null in JSON; a page leaves it out.
  EXPECT_EQ(with("/test/loss", nullptr), "");
  EXPECT_EQ(with("/train_loss", nullptr), "");
  // Tables of other lengths than the model's.
  EXPECT_EQ(with("/test/layers/mixture/cluster/counts",
                 Json::array({Json::array({1, 2, 3, 4, 5, 6, 7}), Json::array()})),
            "");
}

TEST_F(RunFilesTest, TwoProcessesDoNotTrainInOneFolder) {
  run_interrupted("a", 2);
  {
    const run::RunFolder other(folder_ / "a");
    try {
      finish("a");
      ADD_FAILURE();
    } catch (const IoError& error) {
      EXPECT_NE(std::string(error.what()).find(concat("is in use by process ", ::getpid())),
                std::string::npos)
          << error.what();
    }
  }
  EXPECT_EQ(finish("a"), RunStatus::kFinished);
  const run::RunFolder again(folder_ / "a");
  EXPECT_EQ(report_message("a"), "");  // reading needs no lock
  task().evaluate(folder_ / "a", "");
}

TEST_F(RunFilesTest, ANewFolderIsTakenAwayAgainWhenNothingWasTrained) {
  // The first step goes; the second has no finite loss, with cubes of weights of 1e18.
  const Config good = config_;
  config_ = Config();
  bind_config(parse_toml(R"(
data = { name = "cluster-patch", options = { num_train = 100, num_test = 50 } }
train = { epochs = 9, batch_size = 100, optimizer = "normalized_gd", lr = 1e9, groups = [{ match = "moe.experts", normalize = true, lr_scale = 1e9 }] }
[model]
kind = "sparse_mixture"
num_experts = 4
expert = { kind = "patch", activation = "cubic" }
router = { input = "patch_sum", top_k = 1, combine_weights = "logits", init = "zero" }
)",
                         "test"),
              config_);
  EXPECT_THROW(run("new/deep"), NumericError);
  config_ = good;
  EXPECT_TRUE(fs::exists(folder_ / "new/deep/config.toml"));
  config_.train.loop.lr = 0.1;
  fs::create_directories(folder_ / "mine");
  write_file_atomic(folder_ / "mine/note", "mine");
  for (const char* name : {"other/deep", "mine"}) {
    run::RunOptions options{folder_ / name, "", false, true, "/nonexistent/status"};
    EXPECT_THROW(run_recipe(config_, options), IoError);
  }
  EXPECT_FALSE(fs::exists(folder_ / "other"));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_ / "mine"), {}), 1);
}

TEST_F(RunFilesTest, TellsHowFarItIsInAFile) {
  run::RunOptions options{folder_ / "a", "", false, true, folder_ / "status"};
  fs::create_directories(folder_);
  run_recipe(config_, options);
  const auto status = read_status(folder_ / "status");
  ASSERT_TRUE(status);
  EXPECT_EQ(status->epochs, 4);
  EXPECT_EQ(status->steps, 16);
}

TEST_F(RunFilesTest, SizesBeyondTheMemoryAreRefusedInWordsBeforeAnythingIsWritten) {
  const auto refused = [&](const std::vector<std::string>& set, const std::string& wanted) {
    ConfigTree tree = parse_toml(kRecipe, "test");
    for (const auto& assignment : set) apply_override(tree, assignment);
    try {
      Config config;
      bind_config(tree, config);
      run_recipe(config, {folder_ / "a", "", false, true});
      ADD_FAILURE() << wanted;
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find(wanted), std::string::npos) << error.what();
      EXPECT_EQ(std::string(error.what()).find("Allocator"), std::string::npos) << error.what();
    }
    EXPECT_FALSE(fs::exists(folder_ / "a"));
  };
  refused({"train.patience=0", "model.num_experts=1000000000"}, "model.num_experts");
  refused({"train.patience=0", "model.expert.intermediate_size=1000000000"},
          "model.expert.intermediate_size");
  refused({"train.patience=0", "data.options.num_train=1000000000"}, "data.options.num_train");
}

}  // namespace
}  // namespace moekit::classification
