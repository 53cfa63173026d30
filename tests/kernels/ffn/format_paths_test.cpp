#include "moekit/kernels/common/format_paths.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>

#include "moekit/core/error.h"
#include "moekit/kernels/ffn/ffn_kernels.h"
#include "tests/kernels/ffn/expert_ffn_support.h"

namespace moekit::kernels {
namespace {

TEST(FormatPaths, AreThoseOfTheFirstSetUnlessALaterOneIsFasterByAQuarter) {
  using Rates = std::vector<IsaRates>;
  const auto vnni = Isa::kAvx512Vnni;
  // A bfloat16 product at half the rate of float32's multiply-add: widened in registers.
  EXPECT_EQ(choose_paths(Rates{{vnni, 178, 87, 740}, {Isa::kAvx512, 177, 178, 370}}),
            FormatPaths(vnni, Isa::kAvx512, vnni));
  // At twice the rate: native.
  EXPECT_EQ(choose_paths(Rates{{vnni, 250, 500, 1000}, {Isa::kAvx512, 251, 250, 500}}),
            FormatPaths(vnni));
  EXPECT_EQ(choose_paths(Rates{{vnni, 100, 100, 100}, {Isa::kAvx512, 124, 125, 126}}),
            FormatPaths(vnni, vnni, Isa::kAvx512));
  // Against the best so far, not the first alone.
  EXPECT_EQ(choose_paths(Rates{{vnni, 1, 1, 1}, {Isa::kAvx512, 2, 2, 2}, {Isa::kAvx2, 2, 2, 4}}),
            FormatPaths(Isa::kAvx512, Isa::kAvx512, Isa::kAvx2));
  EXPECT_EQ(choose_paths({}), FormatPaths(Isa::kReference));
}

TEST(FormatPaths, SayWhyTheyWereChosen) {
  const std::vector<IsaRates> rates{{Isa::kAvx512Vnni, 179e9, 89e9, 715e9},
                                    {Isa::kAvx512, 179e9, 176e9, 180e9}};
  EXPECT_EQ(why_chosen(rates, &IsaRates::bf16), "avx512: 176 against 89 of avx512-vnni");
  EXPECT_EQ(why_chosen(rates, &IsaRates::int8), "avx512-vnni: no other is faster by a quarter");
  EXPECT_EQ(why_chosen({rates[1]}, &IsaRates::f32), "avx512: there is no other");
  EXPECT_EQ(why_chosen({}, &IsaRates::f32), "reference: there is no other");
}

TEST(FormatPaths, AreMeasuredForEverySetOfTheMachine) {
  std::vector<Isa> measured;
  const auto sets = measure_sets();
  EXPECT_TRUE(sets.refused.empty());
  for (const auto& rates : sets.rates) {
    measured.push_back(rates.isa);
    EXPECT_GT(rates.f32, 1e8);
    EXPECT_GT(rates.bf16, 1e8);
    EXPECT_GT(rates.int8, 1e8);
  }
  auto wanted = supported_isas();
  wanted.pop_back();  // the reference has no instructions of its own
  EXPECT_EQ(measured, wanted);
}

TEST(FormatPaths, AreTheVariablesWhereItIsSet) {
  const char* before = std::getenv("MOEKIT_ISA");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("MOEKIT_ISA", "reference", 1);
  EXPECT_EQ(default_paths(), FormatPaths(Isa::kReference));
  ::setenv("MOEKIT_ISA", "sse9", 1);
  EXPECT_THROW(default_paths(), ArgumentError);
  ::unsetenv("MOEKIT_ISA");
  EXPECT_EQ(default_paths(), default_paths());
  EXPECT_TRUE(isa_supported(default_paths().bf16));
  if (before != nullptr) ::setenv("MOEKIT_ISA", kept.c_str(), 1);
}

TEST(FormatPaths, SayWhichAreOthers) {
  EXPECT_EQ(paths_text(Isa::kAvx2), "avx2");
  EXPECT_EQ(paths_text({Isa::kAvx512Vnni, Isa::kAvx512, Isa::kAvx512Vnni}),
            "avx512-vnni, bf16 by avx512");
  EXPECT_EQ(paths_text({Isa::kAvx512, Isa::kAvx512, Isa::kAvx2}), "avx512, integers by avx2");
}

TEST(FormatPaths, AnInstructionThatTheProcessorLacksIsSurvived) {
  int reached = 0;
  EXPECT_TRUE(runs_here([&] { ++reached; }));
  EXPECT_FALSE(runs_here([&] {
    ++reached;
    std::raise(SIGILL);
    ++reached;
  }));
#if defined(__x86_64__)
  EXPECT_FALSE(runs_here([&] {
    ++reached;
    asm volatile("ud2");
    ++reached;
  }));
  EXPECT_EQ(reached, 3);
#endif
  // The signal is the program's own again.
  struct sigaction now = {};
  sigaction(SIGILL, nullptr, &now);
  EXPECT_EQ(now.sa_handler, SIG_DFL);
  EXPECT_TRUE(runs_here([] {}));
}

TEST(FormatPaths, TrainFewRowsInRoundedFloatsWhereBf16HasAProductOfItsOwn) {
  for (const auto isa : supported_isas()) {
    if (isa == Isa::kReference) continue;
    const FormatPaths paths = with_few_rows(isa, {});
    EXPECT_EQ(paths.bf16, isa);
    const bool floats = ffn_backward_kernels(isa).bf16_as_floats;
    if (floats) {
      EXPECT_EQ(paths, FormatPaths(isa));
    } else {
      EXPECT_NE(paths.few_bf16, isa);
      EXPECT_TRUE(isa_supported(paths.few_bf16));
      EXPECT_EQ(paths_text(paths), concat(isa_name(isa), ", bf16 by ", isa_name(isa),
                                          " (of few rows ", isa_name(paths.few_bf16), ")"));
      // What the processor has not is not taken.
      EXPECT_NE(with_few_rows(isa, {paths.few_bf16}).few_bf16, paths.few_bf16);
    }
  }
}

TEST(FormatPaths, RunABankByItsRows) {
  const FormatPaths paths = with_few_rows(supported_isas().front(), {});
  if (paths.few_bf16 == paths.bf16) GTEST_SKIP() << "one set trains bf16 here";
  std::mt19937 generator(6);
  const FfnShape shape{2, 96, 64, 96, Activation::kSwiglu, false};
  Parameters parameters(shape, generator);
  Runner runner;
  const auto trained = [&](const RoutingPlan& plan, const std::vector<float>& tokens,
                           const FormatPaths& by) {
    const TrainBank bank{shape, parameters.pointers<ExpertMatrices>(), &plan, ComputeType::kBf16};
    Execution execution = runner.on(Isa::kReference);
    execution.paths = by;
    FfnTape tape;
    std::vector<float> out(tokens.size());
    std::vector<float> gradient(tokens.size());
    expert_ffn_train_forward(bank, tokens.data(), out.data(), &tape, execution);
    FfnGradients gradients;
    gradients.tokens = gradient.data();
    expert_ffn_backward(bank, tokens.data(), out.data(), tape, gradients, execution);
    out.insert(out.end(), gradient.begin(), gradient.end());
    return out;
  };
  for (const std::int64_t n : {6, 64}) {
    const auto plan = random_plan(generator, n, 2, 1, 2);
    const auto tokens = random_values(generator, n * 96);
    EXPECT_EQ(trained(plan, tokens, paths),
              trained(plan, tokens, n < 16 ? paths.few_bf16 : paths.bf16));
  }
}

TEST(FormatPaths, RunEveryBankOfACallOnItsOwn) {
  std::vector<Isa> sets = supported_isas();
  sets.pop_back();
  if (sets.size() < 2) GTEST_SKIP() << "this machine has one instruction set";
  std::mt19937 generator(5);
  const FfnShape shape{4, 96, 64, 96, Activation::kSwiglu, false};
  Parameters parameters(shape, generator);
  const auto plan = random_plan(generator, 9, 4, 2, 4);
  const auto tokens = random_values(generator, 9 * 96);
  Runner runner;
  const auto run = [&](WeightFormat format, const FormatPaths& paths) {
    const auto packed = pack_all(shape, format, parameters);
    std::vector<float> out(9 * 96);
    Execution execution = runner.on(Isa::kReference);
    execution.paths = paths;
    expert_ffn_forward({{&packed, &plan}}, tokens.data(), out.data(), execution);
    return out;
  };
  const FormatPaths mixed{sets[0], sets[1], sets[0]};
  EXPECT_EQ(run(WeightFormat::kBf16, mixed), run(WeightFormat::kBf16, sets[1]));
  EXPECT_EQ(run(WeightFormat::kF32, mixed), run(WeightFormat::kF32, sets[0]));
  EXPECT_EQ(run(WeightFormat::kInt8, mixed), run(WeightFormat::kInt8, sets[0]));
}

}  // namespace
}  // namespace moekit::kernels
