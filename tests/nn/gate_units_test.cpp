#include "moekit/nn/gate_units.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <limits>

namespace moekit::nn {
namespace {

using Sizes = std::vector<int64_t>;

/// Three sequences of four tokens: the second lacks its second and last token, the third all.
struct Sequences {
  torch::Tensor tokens = torch::arange(24.0).square().view({3, 4, 2});
  RouterContext context;

  Sequences() {
    context.mask = torch::ones({3, 4}, torch::kBool);
    context.mask[1][1] = false;
    context.mask[1][3] = false;
    context.mask[2].fill_(false);
  }
  TokenRows rows() const { return {tokens, context, 1}; }
};

torch::Tensor of_ids(const Sizes& values) { return torch::tensor(values, torch::kLong); }

TEST(GateUnits, OfSequencesAreMeansOfTheTokensThatAreThere) {
  Sequences s;
  const auto masked = [&](double value) {
    s.tokens.masked_fill_(s.context.mask.logical_not().unsqueeze(2), value);
  };
  masked(std::numeric_limits<double>::quiet_NaN());
  const auto units = sequence_units(s.tokens, s.rows(), false);
  const auto& x = s.tokens;
  EXPECT_TRUE(torch::allclose(units.inputs, torch::stack({x[0].mean(0), (x[1][0] + x[1][2]) / 2})));
  EXPECT_EQ(units.sizes, (Sizes{4, 2}));
  EXPECT_TRUE(torch::equal(units.of_row, of_ids({0, 0, 0, 0, 1, 1})));
  EXPECT_TRUE(units.in_order);
  EXPECT_TRUE(torch::equal(units.sequence, of_ids({0, 1})));
  masked(7);
  const auto padded = sequence_units(s.tokens, s.rows(), true);
  EXPECT_TRUE(torch::allclose(padded.inputs, torch::stack({x[0].mean(0), x[1].mean(0)})));
  EXPECT_EQ(padded.sizes, (Sizes{4, 2}));
}

TEST(GateUnits, OfOneSequenceNeedNoRows) {
  const auto x = torch::randn({5, 3});
  const auto units = sequence_units(x, TokenRows(x, {}, 1), false);
  EXPECT_TRUE(torch::allclose(units.inputs, x.mean(0).unsqueeze(0)));
  EXPECT_EQ(units.sizes, (Sizes{5}));
  EXPECT_FALSE(units.of_row.defined());
  const auto none = torch::zeros({0, 4, 3});
  const auto of_none = sequence_units(none, TokenRows(none, {}, 1), false);
  EXPECT_EQ(of_none.inputs.sizes(), (Sizes{0, 3}));
  EXPECT_TRUE(of_none.sizes.empty());
  EXPECT_EQ(of_none.of_row.numel(), 0);
}

TEST(GateUnits, OfPrefixesAreMeansUpToThem) {
  Sequences s;
  s.tokens.masked_fill_(s.context.mask.logical_not().unsqueeze(2), 7);
  const auto& x = s.tokens;
  for (const bool padding : {false, true}) {
    const auto units = prefix_units(s.tokens, s.rows(), padding);
    std::vector<torch::Tensor> want;
    for (int64_t t = 0; t < 4; ++t) want.push_back(x[0].narrow(0, 0, t + 1).mean(0));
    want.push_back(x[1][0]);
    want.push_back(padding ? x[1].narrow(0, 0, 3).mean(0) : (x[1][0] + x[1][2]) / 2);
    EXPECT_TRUE(torch::allclose(units.inputs, torch::stack(want))) << padding;
    EXPECT_EQ(units.sizes, Sizes(6, 1));
    EXPECT_TRUE(torch::equal(units.of_row, torch::arange(6, torch::kLong)));
    EXPECT_TRUE(torch::equal(units.sequence, of_ids({0, 0, 0, 0, 1, 1})));
    EXPECT_TRUE(units.in_order);
  }
  const auto one = prefix_units(x[0], TokenRows(x[0], {}, 1), false);
  EXPECT_EQ(one.inputs.sizes(), (Sizes{4, 2}));
  EXPECT_FALSE(one.sequence.defined());
}

TEST(GateUnits, OfTokensAreTheTokens) {
  const Sequences s;
  const auto units = token_units(s.rows());
  EXPECT_TRUE(torch::equal(units.inputs, s.rows().tokens));
  EXPECT_EQ(units.sizes, Sizes(6, 1));
  EXPECT_TRUE(torch::equal(units.sequence, of_ids({0, 0, 0, 0, 1, 1})));
}

TEST(GateUnits, OfTasksAreTheirVectors) {
  const Sequences s;
  const auto task = torch::randn({5});
  const auto one = task_units(s.rows(), task);
  EXPECT_TRUE(torch::equal(one.inputs, task.unsqueeze(0)));
  EXPECT_EQ(one.sizes, (Sizes{6}));
  EXPECT_FALSE(one.of_row.defined());
  EXPECT_FALSE(one.sequence.defined());
  const auto vectors = torch::randn({4, 5});
  const auto by_id = [&](const Sizes& ids) {
    auto with = s;
    with.context.task_id = of_ids(ids).view({3, 4});
    return task_units_by_id(with.rows(), vectors);
  };
  // Ids of masked tokens may be anything.
  const auto units = by_id({3, 0, 3, 3, 0, 99, 2, -7, 99, 99, 99, 99});
  EXPECT_TRUE(torch::equal(units.inputs, vectors.index_select(0, of_ids({0, 2, 3}))));
  EXPECT_EQ(units.sizes, (Sizes{2, 1, 3}));
  EXPECT_TRUE(torch::equal(units.of_row, of_ids({2, 0, 2, 2, 0, 1})));
  EXPECT_FALSE(units.in_order);
  const auto same = by_id({1, 1, 1, 1, 1, 9, 1, 9, 9, 9, 9, 9});
  EXPECT_TRUE(torch::equal(same.inputs, vectors.narrow(0, 1, 1)));
  EXPECT_FALSE(same.of_row.defined());
  EXPECT_TRUE(same.in_order);
}

TEST(GateUnits, SumInFloatAndCarryGradients) {
  Sequences s;
  s.tokens = (s.tokens / 100).to(torch::kBFloat16).requires_grad_();
  for (const bool prefix : {false, true}) {
    const auto units = prefix ? prefix_units(s.tokens, s.rows(), false)
                              : sequence_units(s.tokens, s.rows(), false);
    EXPECT_EQ(units.inputs.scalar_type(), torch::kFloat32);
    const auto gradient = torch::autograd::grad({units.inputs.sum()}, {s.tokens})[0];
    EXPECT_EQ(gradient.scalar_type(), torch::kBFloat16);
    EXPECT_EQ(gradient.ne(0).any(2).sum().item<int64_t>(), 6);
    EXPECT_EQ(gradient[1][3][0].item<float>(), 0);
  }
}

TEST(TokenRows, FlattenSelectAndRestore) {
  auto x = torch::randn({2, 3, 4});
  RouterContext context;
  context.task_id = torch::arange(6, torch::kLong).view({2, 3});
  context.token_id = context.task_id + 10;
  context.mask = torch::tensor({{true, false, true}, {false, true, true}});
  const TokenRows rows(x, context, 1);
  const auto there = of_ids({0, 2, 4, 5});
  EXPECT_TRUE(torch::equal(rows.rows, there));
  EXPECT_TRUE(torch::equal(rows.tokens, x.flatten(0, 1).index_select(0, there)));
  EXPECT_TRUE(torch::equal(rows.context.task_id, there));
  EXPECT_TRUE(torch::equal(rows.context.token_id, there + 10));
  EXPECT_TRUE(torch::equal(rows.context.sequence, of_ids({0, 0, 1, 1})));
  EXPECT_FALSE(rows.context.mask.defined());
  EXPECT_EQ(rows.total, 6);
  EXPECT_EQ(rows.batch, (Sizes{2, 3}));
  const auto back = rows.restore(rows.tokens);
  EXPECT_TRUE(torch::equal(back, x * context.mask.unsqueeze(2)));
  const auto stacked = rows.restore(torch::stack({rows.tokens, 2 * rows.tokens}), 1);
  EXPECT_TRUE(torch::equal(stacked, torch::stack({back, 2 * back})));

  const TokenRows all(x, {}, 1);
  EXPECT_FALSE(all.rows.defined());
  EXPECT_TRUE(torch::equal(all.restore(all.tokens), x));
  // Images of [C, H, W], and tokens that are taken as they come.
  const TokenRows as_they_come(x, {}, 0);
  EXPECT_EQ(as_they_come.total, 2);
  EXPECT_TRUE(as_they_come.batch.empty());
  const TokenRows vectors(x[0], {}, 1);
  EXPECT_TRUE(vectors.batch.empty());
  EXPECT_FALSE(vectors.context.sequence.defined());
  EXPECT_TRUE(torch::equal(vectors.restore(vectors.tokens), x[0]));
}

TEST(RouterContext, SelectsTheRowsOfAllThatIsOfTokens) {
  RouterContext context;
  context.training = true;
  context.task_id = of_ids({0, 1, 2});
  context.token_id = of_ids({3, 4, 5});
  context.sequence = of_ids({0, 0, 1});
  context.previous_logits = torch::randn({3, 2});
  context.expert_features = torch::randn({2, 3, 4});
  context.mask = torch::ones({3}, torch::kBool);
  const auto index = of_ids({2, 0});
  const auto some = context.select(index);
  EXPECT_TRUE(some.training);
  EXPECT_TRUE(torch::equal(some.task_id, of_ids({2, 0})));
  EXPECT_TRUE(torch::equal(some.token_id, of_ids({5, 3})));
  EXPECT_TRUE(torch::equal(some.sequence, of_ids({1, 0})));
  EXPECT_TRUE(torch::equal(some.previous_logits, context.previous_logits.index_select(0, index)));
  EXPECT_TRUE(torch::equal(some.expert_features, context.expert_features.index_select(1, index)));
  EXPECT_FALSE(some.mask.defined());
  EXPECT_FALSE(RouterContext().select(index).task_id.defined());
}

}  // namespace
}  // namespace moekit::nn
