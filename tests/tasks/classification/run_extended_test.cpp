// Runs that go on with another recipe.
#include <gtest/gtest.h>

#include <csignal>

#include "moekit/core/error.h"
#include "moekit/core/interrupt.h"
#include "moekit/run/run.h"
#include "moekit/tasks/classification/problem.h"
#include "moekit/tasks/classification/task.h"
#include "tests/tasks/classification/run_fixture.h"

namespace moekit::classification {
namespace {
namespace fs = std::filesystem;
using run::read_metrics;
using run::read_summary;
using run::RunStatus;

TEST_F(RunTest, AnExtendedRunEqualsOneThatWasLongerFromTheStart) {
  const std::vector<std::string> constant = {"train.schedule=constant", "train.warmup_steps=3"};
  auto config = recipe(kImages, constant);
  const auto extended = [&](const std::string& name) {
    auto out = options(name, true);
    out.extend = true;
    return out;
  };
  run_recipe(config, options("long"));
  config.train.loop.epochs = 2;
  ASSERT_EQ(run_recipe(config, options("grown")), RunStatus::kFinished);
  config.train.loop.epochs = 4;
  config.train.loop.keep_every = 1;
  ASSERT_EQ(run_recipe(config, extended("grown")), RunStatus::kFinished);
  for (const char* file : {"model/model.safetensors", "metrics.jsonl", "trace.safetensors"}) {
    EXPECT_EQ(bytes("long", file), bytes("grown", file)) << file;
  }
  EXPECT_EQ(read_summary(folder_ / "grown")["epochs"], 4);
  EXPECT_EQ(read_config(folder_ / "grown").train.loop.keep_every, 1);
  // And again, interrupted on the way.
  config.train.loop.epochs = 5;
  const InterruptGuard guard;
  std::raise(SIGINT);
  EXPECT_EQ(run_recipe(config, extended("grown")), RunStatus::kInterrupted);
  EXPECT_THROW(read_summary(folder_ / "grown"), IoError);
  const InterruptGuard calm;
  EXPECT_EQ(run_recipe(config, options("grown", true)), RunStatus::kFinished);
  EXPECT_EQ(read_metrics(folder_ / "grown").size(), 5U);
}

TEST_F(RunTest, WhatMayNotChangeOnResumeIsRefusedByNameWithBothValues) {
  config_.train.loop.epochs = 1;
  ASSERT_EQ(run_recipe(config_, options("a")), RunStatus::kFinished);
  const auto before = bytes("a", "config.toml") + bytes("a", "summary.json");
  const auto refusal = [&](const std::vector<std::string>& set, bool extend = true) {
    auto out = options("a", true);
    out.extend = extend;
    auto all = set;
    if (all.empty() || all.back().find("epochs") == std::string::npos) {
      all.emplace_back("train.epochs=1");
    }
    std::string text = "accepted";
    try {
      run_recipe(recipe(kImages, all), out);
    } catch (const ArgumentError& error) {
      text = error.what();
    }
    EXPECT_EQ(before, bytes("a", "config.toml") + bytes("a", "summary.json")) << text;
    return text;
  };
  const auto expect_part = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const auto two = refusal({"train.lr=0.5", "model.expert.intermediate_size=9", "train.epochs=2"});
  expect_part(two, "train.lr was 0.001, now 0.5");
  expect_part(two, "model.expert.intermediate_size was 8, now 9");
  EXPECT_EQ(two.find("epochs"), std::string::npos) << two;
  expect_part(refusal({"train.optimizer=sgd"}), "train.beta1 was 0.9, now not there");
  expect_part(refusal({"seed=2"}), "seed was 1, now 2");
  expect_part(refusal({"train.epochs=0"}), "has taken 18 steps; the changed recipe has 0");
  expect_part(refusal({"train.epochs=3"}, /*extend=*/false), "train.epochs was 1, now 3");
  EXPECT_EQ(refusal({}), "accepted");  // the same recipe, finished
}

TEST_F(RunTest, AFinishedRunTakesKeysThatMayChangeAndIsJudgedAgain) {
  config_.train.loop.epochs = 1;
  ASSERT_EQ(run_recipe(config_, options("a")), RunStatus::kFinished);
  const auto model = bytes("a", "model/model.safetensors");
  auto out = options("a", true);
  out.extend = true;
  const auto changed = recipe(kImages, {"train.epochs=1", "train.keep_every=2", "events=false"});
  ASSERT_EQ(run_recipe(changed, out), RunStatus::kFinished);
  EXPECT_EQ(read_config(folder_ / "a").train.loop.keep_every, 2);
  EXPECT_FALSE(read_config(folder_ / "a").events);
  EXPECT_EQ(bytes("a", "model/model.safetensors"), model);
  EXPECT_EQ(read_metrics(folder_ / "a").size(), 1U);
  EXPECT_EQ(read_summary(folder_ / "a")["epochs"], 1);
}

}  // namespace
}  // namespace moekit::classification
