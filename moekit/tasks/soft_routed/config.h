#pragma once

#include "moekit/core/config.h"
#include "moekit/theory/soft_routed.h"

namespace moekit::soft_routed {

enum class StudentInit { kRandom, kOverlap };
/// What does not learn.
enum class Frozen { kNone, kRouter, kExperts };

/// A recipe of `task = "soft_routed"`.
struct Config {
  std::string task = "soft_routed";
  int64_t seed = 1;
  int64_t threads = 1;
  bool events = true;
  int64_t dim = 16;
  int64_t teacher_pairs = 2;
  int64_t student_pairs = 4;
  theory::SoftGate gate = theory::SoftGate::kSigmoid;
  StudentInit init = StudentInit::kRandom;
  Frozen frozen = Frozen::kNone;
  double step = 0.05;
  int64_t batch_size = 4096;
  double time = 120;
  int64_t fine_tune_steps = 3000;
  bool prune = true;
  double record_every = 1;
  int64_t test_samples = 65536;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of every random choice", at_least(0, kAnySeed));
    field("threads", threads, "", at_least(1, kMostThreads));
    field("events", events, "also write event files for TensorBoard", changeable());
    field("dim", dim, "d of the Gaussian inputs", at_least(2));
    field("teacher_pairs", teacher_pairs, "m*, at most dim / 2", at_least(1));
    field("student_pairs", student_pairs, "m; with init = \"overlap\" it must be m*", at_least(1));
    field("gate", gate, "of router neurons");
    field("init", init, "random on the sphere, or overlap 1/sqrt d with the teacher");
    field("frozen", frozen, "what keeps its first weights");
    field("step", step, "length of a gradient step, in units of time", above(0));
    field("batch_size", batch_size, "fresh samples a step", at_least(1));
    field("time", time, "of joint training: time / step steps", at_least(0));
    field("fine_tune_steps", fine_tune_steps, "steps after pruning", at_least(0).changeable());
    field("prune", prune, "take out cancelling pairs after training");
    field("record_every", record_every, "time between lines of metrics.jsonl", above(0));
    field("test_samples", test_samples, "for losses and pruning", at_least(1));
  }
};

/// @throws ArgumentError naming the key.
void validate(const Config& config);

}  // namespace moekit::soft_routed

template <>
struct moekit::EnumNames<moekit::soft_routed::StudentInit> {
  static constexpr std::array<std::pair<soft_routed::StudentInit, std::string_view>, 2> kTable{{
      {soft_routed::StudentInit::kRandom, "random"},
      {soft_routed::StudentInit::kOverlap, "overlap"},
  }};
};
template <>
struct moekit::EnumNames<moekit::soft_routed::Frozen> {
  static constexpr std::array<std::pair<soft_routed::Frozen, std::string_view>, 3> kTable{{
      {soft_routed::Frozen::kNone, "none"},
      {soft_routed::Frozen::kRouter, "router"},
      {soft_routed::Frozen::kExperts, "experts"},
  }};
};
