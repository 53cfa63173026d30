#include "moekit/kernels/ffn/expert_ffn.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <string_view>

#include "moekit/core/error.h"
#include "tests/kernels/ffn/expert_ffn_support.h"

namespace moekit::kernels {
namespace {

/// One point of the sweep.
struct Case {
  std::int64_t experts, hidden, intermediate, output, top_k, tokens, used;
  Activation activation;
  bool bias;
  FfnShape shape() const { return {experts, hidden, intermediate, output, activation, bias}; }
};

std::vector<Case> sweep() {
  using A = Activation;
  return {
      {1, 1, 1, 1, 1, 1, 1, A::kRelu, false},
      {4, 64, 64, 64, 2, 7, 4, A::kSwiglu, false},
      {5, 33, 31, 35, 5, 13, 5, A::kGeglu, true},    // K = E; no vector width divides
      {3, 65, 97, 63, 2, 40, 2, A::kReglu, true},    // one expert without tokens
      {7, 130, 33, 64, 3, 0, 7, A::kSwiglu, true},   // no tokens
      {2, 48, 100, 129, 1, 300, 1, A::kGelu, true},  // all to one expert, three row blocks
      {512, 16, 8, 16, 2, 24, 512, A::kSquaredRelu, false},
      {3, 257, 130, 70, 2, 29, 3, A::kRelu, true},
      {2, 2100, 65, 66, 1, 17, 2, A::kSwiglu, false},  // several blocks of inputs
      {2, 70, 1300, 3, 2, 5, 2, A::kGelu, false},
  };
}

std::vector<Isa> vector_isas() {
  auto isas = supported_isas();
  isas.pop_back();  // the reference
  return isas;
}

/// Integer formats round hidden values to 1/127 of the largest: where the two sums differ in the
/// last bit, a code can differ by one. The others differ by the order of sums alone.
double tolerance(WeightFormat format) {
  if (format == WeightFormat::kF32) return 2e-6;
  return format == WeightFormat::kBf16 ? 4e-3 : 2e-2;
}

TEST(ExpertFfn, EveryInstructionSetAndFormatGivesTheReferencesNumbers) {
  Runner runner;
  for (const auto& c : sweep()) {
    std::mt19937 generator(7);
    Parameters parameters(c.shape(), generator);
    const auto plan = random_plan(generator, c.tokens, c.experts, c.top_k, c.used);
    const auto tokens = random_values(generator, c.tokens * c.hidden);
    for (const auto& format : weight_formats()) {
      const auto packed = pack_all(c.shape(), format.format, parameters);
      std::vector<float> want(static_cast<std::size_t>(c.tokens * c.output), 9);
      expert_ffn_forward({{&packed, &plan}}, tokens.data(), want.data(),
                         runner.on(Isa::kReference));
      for (const Isa isa : vector_isas()) {
        std::vector<float> got(want.size(), std::numeric_limits<float>::quiet_NaN());
        expert_ffn_forward({{&packed, &plan}}, tokens.data(), got.data(), runner.on(isa));
        EXPECT_LE(relative_error(got, want), tolerance(format.format))
            << isa_name(isa) << " " << format.name << " D " << c.hidden << " F " << c.intermediate;
      }
    }
  }
}

TEST(ExpertFfn, HiddenRowsAreDividedByTheirRootMeanSquares) {
  Runner runner;
  for (const auto& format : weight_formats()) {
    FfnShape shape{3, 70, 45, 66, Activation::kSwiglu, true};  // no vector width divides 45
    std::mt19937 generator(71);
    Parameters parameters(shape, generator);
    shape.hidden_norm_eps = 1e-3F;
    if (format.per_step < 4) {
      EXPECT_THROW(PackedExperts(shape, format.format), ArgumentError) << format.name;
      continue;
    }
    const auto packed = pack_all(shape, format.format, parameters);
    const auto plan = random_plan(generator, 77, 3, 2, 3);
    const auto tokens = random_values(generator, 77 * 70);
    std::vector<float> want(77 * 66), got(want.size());
    expert_ffn_forward({{&packed, &plan}}, tokens.data(), want.data(), runner.on(Isa::kReference));
    for (const Isa isa : vector_isas()) {
      expert_ffn_forward({{&packed, &plan}}, tokens.data(), got.data(), runner.on(isa));
      EXPECT_LE(relative_error(got, want), tolerance(format.format))
          << isa_name(isa) << " " << format.name;
    }
  }
  // One token, one expert, two hidden values relu(3), relu(4) with scales of 1: their root mean
  // square is sqrt((9 + 16) / 2 + 3.5) = 4, codes are 95 and 127 of 4 / 127.
  FfnShape shape{1, 1, 2, 1, Activation::kRelu, false};
  shape.hidden_norm_eps = 3.5F;
  const std::vector<float> up{3, 4}, down{1, 1};
  PackedExperts packed(shape, WeightFormat::kInt8);
  packed.pack(0, {nullptr, up.data(), down.data()});
  const std::vector<std::int64_t> index{0};
  const std::vector<float> weight{1}, token{1};
  RoutingPlan plan;
  plan.build(1, 1, 1, index.data(), weight.data());
  for (const Isa isa : supported_isas()) {
    float got = 0;
    expert_ffn_forward({{&packed, &plan}}, token.data(), &got, runner.on(isa));
    EXPECT_NEAR(got, (95 + 127) * 4.0 / 127 / 4, 1e-5) << isa_name(isa);
  }
  for (const float bad : {-1.0F, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    shape.hidden_norm_eps = bad;
    EXPECT_THROW(PackedExperts(shape, WeightFormat::kInt8), ArgumentError) << bad;
  }
}

TEST(ExpertFfn, TheReferenceIsTheFormulaWrittenOut) {
  // E = 2, D = 2, F = 1, ReGLU: y = w * down * relu(gate x) * (up x), by hand.
  const FfnShape shape{2, 2, 1, 2, Activation::kReglu, false};
  const std::vector<float> gate{1, 1, -1, 0}, up{2, 0, 0, 3}, down{1, -1, 5, 7};
  PackedExperts packed(shape, WeightFormat::kF32);
  for (std::int64_t e = 0; e < 2; ++e) {
    packed.pack(e, {gate.data() + 2 * e, up.data() + 2 * e, down.data() + 2 * e});
  }
  const std::vector<float> tokens{1, 2, -2, 1};
  const std::vector<std::int64_t> index{0, 1};
  const std::vector<float> weight{0.5F, 0.25F};
  RoutingPlan plan;
  plan.build(2, 2, 1, index.data(), weight.data());
  // Token 0, expert 0: relu(3) * 2 = 6, times (1, -1), times 0.5. Token 1, expert 1: relu(2) * 3
  // = 6.
  const std::vector<float> want{3, -3, 7.5F, 10.5F};
  Runner runner(1);
  for (const Isa isa : supported_isas()) {
    std::vector<float> got(4);
    expert_ffn_forward({{&packed, &plan}}, tokens.data(), got.data(), runner.on(isa));
    EXPECT_EQ(got, want) << isa_name(isa);
  }
}

TEST(ExpertFfn, ManyTokensGoThroughTheSameSums) {
  // 8192 tokens, all to one expert, against the same tokens 100 at a time.
  const FfnShape shape{2, 40, 24, 40, Activation::kSwiglu, false};
  std::mt19937 generator(3);
  Parameters parameters(shape, generator);
  const auto packed = pack_all(shape, WeightFormat::kF32, parameters);
  const std::int64_t n = 8192;
  const auto tokens = random_values(generator, n * 40);
  const std::vector<std::int64_t> index(static_cast<std::size_t>(n), 1);
  Runner runner;
  RoutingPlan plan;
  plan.build(n, 2, 1, index.data(), nullptr);
  std::vector<float> whole(tokens.size()), parts(tokens.size());
  expert_ffn_forward({{&packed, &plan}}, tokens.data(), whole.data(), runner.on(default_isa()));
  for (std::int64_t begin = 0; begin < n; begin += 100) {
    const std::int64_t count = std::min<std::int64_t>(100, n - begin);
    plan.build(count, 2, 1, index.data(), nullptr);
    expert_ffn_forward({{&packed, &plan}}, tokens.data() + begin * 40, parts.data() + begin * 40,
                       runner.on(default_isa()));
  }
  EXPECT_EQ(whole, parts);
}

TEST(ExpertFfn, SharedExpertsAddToTheRoutedOnes) {
  const FfnShape routed{4, 48, 32, 48, Activation::kSwiglu, false};
  const FfnShape shared{2, 48, 70, 48, Activation::kSwiglu, false};
  std::mt19937 generator(5);
  Parameters routed_parameters(routed, generator), shared_parameters(shared, generator);
  const auto plan = random_plan(generator, 19, 4, 2, 4);
  RoutingPlan all;
  all.build_shared(19, 2);
  const auto tokens = random_values(generator, 19 * 48);
  Runner runner;
  for (const auto& format : weight_formats()) {
    const auto a = pack_all(routed, format.format, routed_parameters);
    const auto b = pack_all(shared, format.format, shared_parameters);
    for (const Isa isa : supported_isas()) {
      std::vector<float> both(tokens.size()), first(tokens.size()), second(tokens.size());
      expert_ffn_forward({{&a, &plan}, {&b, &all}}, tokens.data(), both.data(), runner.on(isa));
      expert_ffn_forward({{&a, &plan}}, tokens.data(), first.data(), runner.on(isa));
      expert_ffn_forward({{&b, &all}}, tokens.data(), second.data(), runner.on(isa));
      for (std::size_t i = 0; i < first.size(); ++i) first[i] += second[i];
      EXPECT_LE(relative_error(both, first), 1e-6) << isa_name(isa) << " " << format.name;
    }
  }
}

TEST(ExpertFfn, GivesTheSameBitsForAnyNumberOfThreads) {
  const FfnShape shape{6, 200, 90, 200, Activation::kGeglu, true};
  std::mt19937 generator(11);
  Parameters parameters(shape, generator);
  const auto plan = random_plan(generator, 61, 6, 3, 5);
  const auto tokens = random_values(generator, 61 * 200);
  const auto grad_output = random_values(generator, 61 * 200);
  for (const Isa isa : vector_isas()) {
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 5}) {
      Runner runner(threads);
      std::vector<float> all;
      for (const auto format : {WeightFormat::kF32, WeightFormat::kInt4G32}) {
        const auto packed = pack_all(shape, format, parameters);
        std::vector<float> output(tokens.size());
        expert_ffn_forward({{&packed, &plan}}, tokens.data(), output.data(), runner.on(isa));
        all.insert(all.end(), output.begin(), output.end());
      }
      FfnTape tape;
      const TrainBank bank{shape, parameters.pointers<ExpertMatrices>(), &plan, ComputeType::kF32};
      Parameters grad = parameters;
      std::vector<float> output(tokens.size()), grad_tokens(tokens.size()), grad_weight(61 * 3);
      expert_ffn_train_forward(bank, tokens.data(), output.data(), &tape, runner.on(isa));
      expert_ffn_backward(
          bank, tokens.data(), grad_output.data(), tape,
          {grad_tokens.data(), grad_weight.data(), grad.pointers<MutableExpertMatrices>()},
          runner.on(isa));
      for (const auto* part : {&output, &grad_tokens, &grad_weight, &grad.gate, &grad.up,
                               &grad.down, &grad.gate_bias, &grad.up_bias, &grad.down_bias}) {
        all.insert(all.end(), part->begin(), part->end());
      }
      results.push_back(all);
    }
    EXPECT_EQ(results[0], results[1]) << isa_name(isa);
    EXPECT_EQ(results[0], results[2]) << isa_name(isa);
  }
}

/// All gradients of one case, in one place.
struct Gradients {
  Parameters parameters;
  std::vector<float> tokens, weight, output;
};

Gradients run_training(const Case& c, Parameters& parameters, const RoutingPlan& plan,
                       const std::vector<float>& tokens, const std::vector<float>& grad_output,
                       Execution execution, ComputeType compute, bool keep) {
  Gradients out;
  // A value no gradient has: what is not touched keeps it.
  out.parameters = parameters;
  for (auto* part :
       {&out.parameters.gate, &out.parameters.up, &out.parameters.down, &out.parameters.gate_bias,
        &out.parameters.up_bias, &out.parameters.down_bias}) {
    std::fill(part->begin(), part->end(), -77.0F);
  }
  out.tokens.resize(tokens.size());
  out.weight.resize(static_cast<std::size_t>(c.tokens * c.top_k));
  out.output.resize(static_cast<std::size_t>(c.tokens * c.output));
  FfnTape tape(keep);
  const TrainBank bank{c.shape(), parameters.pointers<ExpertMatrices>(), &plan, compute};
  expert_ffn_train_forward(bank, tokens.data(), out.output.data(), &tape, execution);
  expert_ffn_backward(
      bank, tokens.data(), grad_output.data(), tape,
      {out.tokens.data(), out.weight.data(), out.parameters.pointers<MutableExpertMatrices>()},
      execution);
  return out;
}

TEST(ExpertFfnBackward, EveryInstructionSetGivesTheReferencesGradients) {
  Runner runner;
  for (const auto& c : sweep()) {
    std::mt19937 generator(13);
    Parameters parameters(c.shape(), generator);
    const auto plan = random_plan(generator, c.tokens, c.experts, c.top_k, c.used);
    const auto tokens = random_values(generator, c.tokens * c.hidden);
    const auto grad_output = random_values(generator, c.tokens * c.output);
    for (const auto compute : {ComputeType::kF32, ComputeType::kBf16}) {
      const auto want = run_training(c, parameters, plan, tokens, grad_output,
                                     runner.on(Isa::kReference), compute, true);
      // Where two sums differ in the last bit, one rounded operand can differ by 2^-8.
      const double most = compute == ComputeType::kF32 ? 4e-6 : 4e-3;
      for (const Isa isa : vector_isas()) {
        for (const bool keep : {true, false}) {
          const auto got =
              run_training(c, parameters, plan, tokens, grad_output, runner.on(isa), compute, keep);
          const auto where = concat(isa_name(isa), " D ", c.hidden, " F ", c.intermediate, " bf16 ",
                                    compute == ComputeType::kBf16, " keep ", keep);
          EXPECT_LE(relative_error(got.output, want.output), most) << where;
          EXPECT_LE(relative_error(got.tokens, want.tokens), most) << where;
          EXPECT_LE(relative_error(got.weight, want.weight), most) << where;
          EXPECT_LE(relative_error(got.parameters.gate, want.parameters.gate), most) << where;
          EXPECT_LE(relative_error(got.parameters.up, want.parameters.up), most) << where;
          EXPECT_LE(relative_error(got.parameters.down, want.parameters.down), most) << where;
          EXPECT_LE(relative_error(got.parameters.gate_bias, want.parameters.gate_bias), most);
          EXPECT_LE(relative_error(got.parameters.up_bias, want.parameters.up_bias), most);
          EXPECT_LE(relative_error(got.parameters.down_bias, want.parameters.down_bias), most);
          // Experts without tokens: gradients are not even written.
          for (std::int64_t e = 0; e < c.experts; ++e) {
            const bool untouched =
                got.parameters.up[static_cast<std::size_t>(e * c.intermediate * c.hidden)] ==
                -77.0F;
            EXPECT_EQ(untouched, plan.count(e) == 0) << where << " expert " << e;
          }
        }
      }
    }
  }
}

TEST(ExpertFfnBackward, AgreesWithFiniteDifferences) {
  for (const auto activation :
       {Activation::kGelu, Activation::kSquaredRelu, Activation::kSwiglu, Activation::kGeglu}) {
    const Case c{3, 5, 4, 6, 2, 4, 3, activation, true};
    std::mt19937 generator(17);
    Parameters parameters(c.shape(), generator);
    const auto plan = random_plan(generator, c.tokens, c.experts, c.top_k, c.used);
    auto tokens = random_values(generator, c.tokens * c.hidden);
    const auto grad_output = random_values(generator, c.tokens * c.output);
    Runner runner(1);
    const auto execution = runner.on(default_isa());
    const auto gradients =
        run_training(c, parameters, plan, tokens, grad_output, execution, ComputeType::kF32, true);
    auto changed = plan;
    // The reference sums in double: differences of its float outputs are good to 1e-3 here.
    const auto objective = [&] {
      std::vector<float> output(grad_output.size());
      expert_ffn_train_forward({c.shape(), parameters.pointers<ExpertMatrices>(), &changed},
                               tokens.data(), output.data(), nullptr, runner.on(Isa::kReference));
      return std::inner_product(
          output.begin(), output.end(), grad_output.begin(), 0.0, std::plus<>(),
          [](float a, float b) { return static_cast<double>(a) * static_cast<double>(b); });
    };
    const auto check = [&](const char* name, std::vector<float>& values,
                           const std::vector<float>& gradient) {
      for (std::size_t i = 0; i < values.size(); i += 3) {
        const float before = values[i];
        const float h = 1e-2F;
        values[i] = before + h;
        const double high = objective();
        values[i] = before - h;
        const double low = objective();
        values[i] = before;
        EXPECT_NEAR((high - low) / (2 * static_cast<double>(h)), static_cast<double>(gradient[i]),
                    2e-3 * (1 + std::fabs(static_cast<double>(gradient[i]))))
            << enum_name(activation) << " " << name << " " << i;
      }
    };
    check("tokens", tokens, gradients.tokens);
    check("gate", parameters.gate, gradients.parameters.gate);
    check("up", parameters.up, gradients.parameters.up);
    check("down", parameters.down, gradients.parameters.down);
    check("gate_bias", parameters.gate_bias, gradients.parameters.gate_bias);
    check("up_bias", parameters.up_bias, gradients.parameters.up_bias);
    check("down_bias", parameters.down_bias, gradients.parameters.down_bias);
    std::vector<float> by_row(changed.weight.size());
    for (std::size_t row = 0; row < by_row.size(); ++row) {
      by_row[row] = gradients.weight[static_cast<std::size_t>(plan.assignment[row])];
    }
    check("combine_weight", changed.weight, by_row);
  }
}

TEST(ExpertFfn, IntegerSumsAreExactAtTheExtremes) {
  // One hidden value whose weights and tokens are as large as their codes go, 65,536 of them: the
  // sum of codes is 65,536 * 127 * 127 (and 65,536 * 255 * 127 before the offset is taken off).
  const std::int64_t d = kMaxQuantizedInputs;
  const FfnShape shape{1, d, 1, 1, Activation::kRelu, false};
  const std::vector<float> down{1};
  for (const float sign : {1.0F, -1.0F}) {
    const std::vector<float> up(static_cast<std::size_t>(d), sign);
    const std::vector<float> tokens(static_cast<std::size_t>(d), sign * 127);
    const std::int64_t index = 0;
    RoutingPlan plan;
    plan.build(1, 1, 1, &index, nullptr);
    Runner runner(1);
    for (const auto format : {WeightFormat::kInt8, WeightFormat::kInt4G32, WeightFormat::kInt4G128,
                              WeightFormat::kTernary}) {
      PackedExperts packed(shape, format);
      packed.pack(0, {nullptr, up.data(), down.data()});
      for (const Isa isa : supported_isas()) {
        float got = 0;
        expert_ffn_forward({{&packed, &plan}}, tokens.data(), &got, runner.on(isa));
        std::vector<float> up_as(up.size()), down_as(1);
        packed.unpack(0, {nullptr, up_as.data(), down_as.data()});
        const double want = 127.0 * static_cast<double>(d) * static_cast<double>(sign * up_as[0]) *
                            static_cast<double>(down_as[0]);
        // Float sums over int4's groups round, 2^-24 each time; the integers do not.
        const std::int64_t group = format_info(format).group;
        const double most = group == 0 ? 1e-6 : static_cast<double>(d / group) * 6e-8;
        EXPECT_NEAR(static_cast<double>(got) / want, 1, most)
            << isa_name(isa) << " " << format_info(format).name;
      }
    }
  }
  EXPECT_THROW(PackedExperts({1, d + 1, 1, 1, Activation::kRelu, false}, WeightFormat::kInt8),
               ArgumentError);
}

TEST(ExpertFfn, IntegerSumsAreExactAtTheExtremesOfOppositeSign) {
  // relu(gate x) * (up x) with gate -1, up 1 and tokens -127: the up sum is as negative as it gets.
  const std::int64_t d = kMaxQuantizedInputs;
  const FfnShape shape{1, d, 1, 1, Activation::kReglu, false};
  const std::vector<float> down{1}, gate(static_cast<std::size_t>(d), -1),
      up(static_cast<std::size_t>(d), 1), tokens(static_cast<std::size_t>(d), -127);
  const std::int64_t index = 0;
  RoutingPlan plan;
  plan.build(1, 1, 1, &index, nullptr);
  Runner runner(1);
  for (const auto format : {WeightFormat::kInt8, WeightFormat::kTernary}) {
    PackedExperts packed(shape, format);
    packed.pack(0, {gate.data(), up.data(), down.data()});
    for (const Isa isa : supported_isas()) {
      float got = 0;
      expert_ffn_forward({{&packed, &plan}}, tokens.data(), &got, runner.on(isa));
      const double sum = 127.0 * static_cast<double>(d);
      EXPECT_NEAR(static_cast<double>(got) / (-sum * sum), 1, 1e-5)
          << isa_name(isa) << " " << format_info(format).name;
    }
  }
}

TEST(ExpertFfn, IntegerFormatsHaveTheSameBitsOnEveryVectorSet) {
  // Hidden values of relu are sums, scales and no more, so that no set rounds them to other codes.
  const FfnShape shape{3, 132, 70, 66, Activation::kRelu, false};
  std::mt19937 generator(13);
  Parameters parameters(shape, generator);
  const auto plan = random_plan(generator, 40, 3, 2, 3);
  const auto tokens = random_values(generator, 40 * 132);
  Runner runner;
  for (const auto& format : weight_formats()) {
    if (format.per_step < 4) continue;
    const auto packed = pack_all(shape, format.format, parameters);
    std::vector<float> first;
    for (const Isa isa : vector_isas()) {
      std::vector<float> got(40 * 66);
      expert_ffn_forward({{&packed, &plan}}, tokens.data(), got.data(), runner.on(isa));
      if (first.empty()) first = got;
      EXPECT_EQ(got, first) << isa_name(isa) << " " << format.name;
    }
  }
}

TEST(ExpertFfn, RefusesActivationsItHasNoCodeFor) {
  const std::set<std::string_view> known{"relu",  "gelu",  "squared_relu",
                                         "reglu", "geglu", "swiglu"};
  for (const auto& [activation, name] : EnumNames<Activation>::kTable) {
    EXPECT_EQ(has_ffn_kernel(activation), known.count(name) == 1) << name;
    const FfnShape shape{1, 4, 4, 4, activation, false};
    if (known.count(name) == 1) {
      EXPECT_NO_THROW(PackedExperts(shape, WeightFormat::kF32)) << name;
    } else {
      EXPECT_THROW(PackedExperts(shape, WeightFormat::kF32), ArgumentError) << name;
    }
  }
}

TEST(ExpertFfn, RefusesWithTheValues) {
  const FfnShape shape{2, 4, 4, 4, Activation::kRelu, false};
  PackedExperts packed(shape, WeightFormat::kF32);
  std::vector<std::int64_t> index{0, 2};
  std::vector<float> weights{1, 1};
  RoutingPlan plan;
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "nothing";
  };
  EXPECT_EQ(message([&] { plan.build(2, 2, 1, index.data(), weights.data()); }),
            "RoutingPlan: token 1 is sent to expert 2; there are 2");
  index[1] = 1;
  weights[1] = 0.25F;
  EXPECT_EQ(message([&] { plan.build(2, 2, 1, index.data(), weights.data(), true); }),
            "RoutingPlan: the combine weights of token 1 sum to 0.25; wanted 1");
  weights[1] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(message([&] { plan.build(2, 2, 1, index.data(), weights.data()); }),
            "RoutingPlan: the combine weight of token 1 for expert 1 is inf");
  weights[1] = 1;
  EXPECT_NE(message([&] { plan.build(2, 2, 3, index.data(), weights.data()); }).find("got 3"),
            std::string::npos);
  plan.build(2, 2, 1, index.data(), weights.data());
  std::vector<float> tokens(8, 1), output(8);
  Runner runner(1);
  tokens[6] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message([&] {
              expert_ffn_forward({{&packed, &plan}}, tokens.data(), output.data(),
                                 runner.on(default_isa()));
            }),
            "expert kernels: token 1 is nan at position 2");
  tokens[6] = 1;
  PackedExperts other({3, 4, 4, 4, Activation::kRelu, false}, WeightFormat::kF32);
  EXPECT_EQ(message([&] {
              expert_ffn_forward({{&other, &plan}}, tokens.data(), output.data(),
                                 runner.on(default_isa()));
            }),
            "expert kernels: the plan chooses of 2 experts; the bank has 3");
  EXPECT_EQ(message([&] { packed.pack(2, {}); }), "PackedExperts: expert 2; there are 2");
  std::vector<float> matrix(16, 1);
  matrix[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(message([&] {
              packed.pack(0, {nullptr, matrix.data(), matrix.data()});
            }),
            "PackedExperts: up of expert 0 is nan at row 1, column 1");
  EXPECT_NE(message([&] {
              packed.pack(0, {matrix.data(), matrix.data(), matrix.data()});
            }).find("no gate"),
            std::string::npos);
  EXPECT_NE(message([&] {
              PackedExperts({0, 4, 4, 4}, WeightFormat::kF32);
            }).find("got 0"),
            std::string::npos);
  EXPECT_NE(message([] { parse_isa("sse9"); }).find("avx2"), std::string::npos);
  EXPECT_NE(message([] { parse_weight_format("int3"); }).find("int4-g32"), std::string::npos);
}

/// One expert a value: its gate (and up, ungated) is that value times a token of 1.
struct ExtremeBank {
  ExtremeBank(Activation activation, std::vector<float> values_, float up_value)
      : values(std::move(values_)),
        shape{static_cast<std::int64_t>(values.size()), 1, 1, 1, activation, false},
        up(is_gated(activation) ? std::vector<float>(values.size(), up_value) : values),
        down(values.size(), 0.25F),
        tokens(values.size(), 1),
        grad_output(values.size(), 0.5F) {
    std::vector<std::int64_t> index(values.size());
    std::iota(index.begin(), index.end(), 0);
    plan.build(shape.num_experts, shape.num_experts, 1, index.data(), nullptr);
  }
  TrainBank bank() const {
    const float* gate = is_gated(shape.activation) ? values.data() : nullptr;
    return {shape, {gate, up.data(), down.data()}, &plan, ComputeType::kF32};
  }
  /// Outputs, then the gradients of tokens, weights, gate, up and down.
  std::vector<std::vector<float>> run(const Execution& execution) const {
    const std::vector<float> zeros(values.size(), 0);
    std::vector<std::vector<float>> got(6, zeros);
    FfnTape tape;
    expert_ffn_train_forward(bank(), tokens.data(), got[0].data(), &tape, execution);
    FfnGradients gradients{got[1].data(), got[2].data(), {}};
    gradients.parameters = {is_gated(shape.activation) ? got[3].data() : nullptr, got[4].data(),
                            got[5].data()};
    expert_ffn_backward(bank(), tokens.data(), grad_output.data(), tape, gradients, execution);
    return got;
  }
  std::vector<float> values;
  FfnShape shape;
  std::vector<float> up, down, tokens, grad_output;
  RoutingPlan plan;
};

TEST(ExpertFfn, ActivationsAndTheirGradientsHoldAtTheEndsOfTheRange) {
  const std::vector<float> values{3e38F, -3e38F, 1e38F,  -1e38F,  1e20F,  -1e20F, 200, -200,
                                  89,    -89,    88.2F,  -88.2F,  20,     -20,    1,   -1,
                                  0,     -0.0F,  1e-30F, -1e-30F, 1e-40F, -1e-40F};
  const char* const names[]{"output", "token", "weight", "gate", "up", "down"};
  Runner runner(1);
  for (const auto activation : {Activation::kSwiglu, Activation::kGeglu, Activation::kReglu,
                                Activation::kGelu, Activation::kRelu}) {
    for (const float up : {0.5F, -0.5F, 1e-30F}) {
      const ExtremeBank bank(activation, values, up);
      const auto want = bank.run(runner.on(Isa::kReference));
      for (const Isa isa : vector_isas()) {
        const auto got = bank.run(runner.on(isa));
        for (std::size_t part = 0; part < want.size(); ++part) {
          for (std::size_t i = 0; i < values.size(); ++i) {
            ASSERT_TRUE(std::isfinite(want[part][i])) << names[part] << " of " << values[i];
            const double wanted = static_cast<double>(want[part][i]);
            // GELU's error function is good to 1.5e-7 of its argument, at most 20 where it counts;
            // SiLU's sigmoid is 0 from -88.4 on, where its value is 4e-37.
            EXPECT_NEAR(static_cast<double>(got[part][i]), wanted,
                        5e-6 * std::fabs(wanted) + (std::fabs(values[i]) > 1e10F ? 0 : 4e-6))
                << isa_name(isa) << " " << enum_name(activation) << " " << names[part] << " of "
                << values[i] << " with up " << up;
          }
        }
      }
    }
  }
}

TEST(ExpertFfn, AClosedGateLetsNothingOfALargeValueThrough) {
  // SiLU and GELU are 0 there, in value and slope: 0 times 3e38 is 0, forward and backward.
  Runner runner(1);
  for (const auto activation : {Activation::kSwiglu, Activation::kGeglu, Activation::kReglu}) {
    const ExtremeBank bank(activation, {-3e38F, -1e38F, -1e10F, -1000}, 3e38F);
    for (const Isa isa : supported_isas()) {
      for (const auto& part : bank.run(runner.on(isa))) {
        for (const float value : part) EXPECT_EQ(value, 0) << isa_name(isa);
      }
    }
  }
}

TEST(ExpertFfn, NanComesOutAsNanWhateverItsBits) {
  // Of ones alone: rounding it to bfloat16 as if it were a number gives zero. 20 features: more
  // than a vector and a rest.
  const float nan = std::bit_cast<float>(0x7fffffffU);
  const FfnShape shape{1, 20, 3, 3, Activation::kRelu, false};
  std::mt19937 generator(2);
  Parameters parameters(shape, generator);
  std::fill(parameters.up.begin(), parameters.up.end(), 0.5F);
  std::fill(parameters.down.begin(), parameters.down.end(), 0.5F);
  const std::vector<std::int64_t> index{0, 0};
  RoutingPlan plan;
  plan.build(2, 1, 1, index.data(), nullptr);
  Runner runner(1);
  for (const std::size_t place : {std::size_t{2}, std::size_t{19}}) {
    std::vector<float> tokens(40, 1);
    tokens[20 + place] = nan;
    const auto expect_second = [&](const std::vector<float>& got, const std::string& what) {
      for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(std::isnan(got[i]), i >= 3) << what << " " << i;
    };
    for (const Isa isa : supported_isas()) {
      auto execution = runner.on(isa);
      execution.check_finite = false;
      std::vector<float> got(6);
      for (const auto& format : weight_formats()) {
        const auto packed = pack_all(shape, format.format, parameters);
        expert_ffn_forward({{&packed, &plan}}, tokens.data(), got.data(), execution);
        expect_second(got, concat(isa_name(isa), " ", format.name));
      }
      const TrainBank bank{shape,
                           {nullptr, parameters.up.data(), parameters.down.data()},
                           &plan,
                           ComputeType::kBf16};
      expert_ffn_train_forward(bank, tokens.data(), got.data(), nullptr, execution);
      expect_second(got, concat(isa_name(isa), " training"));
    }
  }
}

TEST(ExpertFfn, ASecondCallOfTheSameSizeLeavesTheWorkspaceAsItIs) {
  const FfnShape shape{4, 64, 64, 64, Activation::kSwiglu, false};
  std::mt19937 generator(1);
  Parameters parameters(shape, generator);
  const auto packed = pack_all(shape, WeightFormat::kInt8, parameters);
  const auto plan = random_plan(generator, 50, 4, 2, 4);
  const auto tokens = random_values(generator, 50 * 64);
  std::vector<float> output(tokens.size());
  Runner runner;
  expert_ffn_forward({{&packed, &plan}}, tokens.data(), output.data(), runner.on(default_isa()));
  const auto bytes = runner.workspace.bytes();
  EXPECT_GT(bytes, 0U);
  expert_ffn_forward({{&packed, &plan}}, tokens.data(), output.data(), runner.on(default_isa()));
  EXPECT_EQ(runner.workspace.bytes(), bytes);
}

}  // namespace
}  // namespace moekit::kernels
