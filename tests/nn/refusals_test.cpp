// What the functions of nn refuse, in whole sentences, and the last values that they take.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "moekit/nn/attention.h"
#include "moekit/nn/balanced_assignment.h"
#include "moekit/nn/bit_linear.h"
#include "moekit/nn/capacity.h"
#include "moekit/nn/conv_maxpool.h"
#include "moekit/nn/grouped_linear.h"
#include "moekit/nn/linear_cross_entropy.h"
#include "moekit/nn/matrix_product.h"
#include "moekit/nn/orthogonal.h"
#include "moekit/nn/rms_norm.h"
#include "moekit/nn/rotary.h"
#include "moekit/nn/router.h"
#include "moekit/nn/routing.h"
#include "moekit/nn/runtime.h"
#include "moekit/nn/top_k.h"
#include "tests/support/said.h"

namespace moekit::nn {
namespace {

torch::Tensor longs(std::vector<int64_t> values) { return torch::tensor(values, torch::kLong); }

TEST(Refusals, OfAttention) {
  const auto said = [](at::IntArrayRef queries, at::IntArrayRef keys, at::IntArrayRef values,
                       const torch::Tensor& first = {}) {
    std::vector<std::string> both;
    for (const bool fused : {true, false}) {
      AttentionSettings settings;
      settings.fused = fused;
      settings.first = first;
      both.push_back(refusal([&] {
        causal_attention(torch::zeros(queries), torch::zeros(keys), torch::zeros(values), settings);
      }));
    }
    EXPECT_EQ(both[0], both[1]);
    return both[0];
  };
  const std::string four = "attention: queries, keys and values must be [B, T, heads, dim]; got ";
  const std::string fit = "attention: sizes do not fit: queries ";
  const std::string first = "attention: first positions must be int32 [B, Tq]";
  const std::vector<int64_t> q{2, 3, 4, 5}, k{2, 6, 2, 5}, v{2, 6, 2, 7};
  expect_said({
      {said(q, k, v), kTaken},
      {said({2, 6, 4, 5}, k, v), kTaken},  // as many queries as keys
      {said({3, 4, 5}, k, v), four + "[3, 4, 5], [2, 6, 2, 5], [2, 6, 2, 7]"},
      {said(q, {6, 2, 5}, v), four + "[2, 3, 4, 5], [6, 2, 5], [2, 6, 2, 7]"},
      {said(q, k, {6, 2, 7}), four + "[2, 3, 4, 5], [2, 6, 2, 5], [6, 2, 7]"},
      {said(q, {1, 6, 2, 5}, v), fit + "[2, 3, 4, 5], keys [1, 6, 2, 5], values [2, 6, 2, 7]"},
      {said(q, k, {1, 6, 2, 7}), fit + "[2, 3, 4, 5], keys [2, 6, 2, 5], values [1, 6, 2, 7]"},
      {said(q, k, {2, 5, 2, 7}), fit + "[2, 3, 4, 5], keys [2, 6, 2, 5], values [2, 5, 2, 7]"},
      {said({2, 7, 4, 5}, k, v), fit + "[2, 7, 4, 5], keys [2, 6, 2, 5], values [2, 6, 2, 7]"},
      {said(q, k, {2, 6, 1, 7}), fit + "[2, 3, 4, 5], keys [2, 6, 2, 5], values [2, 6, 1, 7]"},
      {said(q, {2, 6, 0, 5}, {2, 6, 0, 7}),
       fit + "[2, 3, 4, 5], keys [2, 6, 0, 5], values [2, 6, 0, 7]"},
      {said({2, 3, 3, 5}, k, v), fit + "[2, 3, 3, 5], keys [2, 6, 2, 5], values [2, 6, 2, 7]"},
      {said(q, {2, 6, 2, 4}, v), fit + "[2, 3, 4, 5], keys [2, 6, 2, 4], values [2, 6, 2, 7]"},
      {said(q, k, v, torch::zeros({2, 3}, torch::kInt)), kTaken},
      {said(q, k, v, torch::zeros({6}, torch::kInt)), first},
      {said(q, k, v, torch::zeros({1, 3}, torch::kInt)), first},
      {said(q, k, v, torch::zeros({2, 4}, torch::kInt)), first},
      {said(q, k, v, torch::zeros({2, 3}, torch::kLong)), first},
  });
  const auto x = torch::zeros({1, 2, 3, 4});
  const auto wide = x.to(torch::kFloat64);
  const std::string types = "the kernel takes float32 or bfloat16, queries, keys and values alike";
  EXPECT_EQ(why_attention_not_fused(x, x, x), "");
  EXPECT_EQ(why_attention_not_fused(wide, x, x), types);
  EXPECT_EQ(why_attention_not_fused(x, wide, x), types);
  EXPECT_EQ(why_attention_not_fused(x, x, wide), types);
  const auto elsewhere = x.to(torch::kMeta);
  EXPECT_EQ(why_attention_not_fused(elsewhere, x, x), "the kernel runs on the CPU");
  EXPECT_EQ(why_attention_not_fused(x, elsewhere, x), "the kernel runs on the CPU");
  EXPECT_EQ(why_attention_not_fused(x, x, elsewhere), "the kernel runs on the CPU");
}

TEST(Refusals, OfConvolutionsWithAPool) {
  const auto said = [](at::IntArrayRef images, at::IntArrayRef weight, at::IntArrayRef bias) {
    return refusal([&] {
      conv3x3_maxpool2_relu(torch::zeros(images), torch::zeros(weight), torch::zeros(bias));
    });
  };
  const std::string images = "conv3x3_maxpool2_relu: images must be [N, 1, H >= 4, W >= 4]; got ";
  const std::string weight = "conv3x3_maxpool2_relu: weight must be [E, C, 1, 3, 3]; got ";
  const std::string bias = "conv3x3_maxpool2_relu: bias must be [2, 5]; got ";
  const std::vector<int64_t> w{2, 5, 1, 3, 3}, b{2, 5};
  expect_said({
      {said({3, 1, 4, 4}, w, b), kTaken},
      {said({1, 4, 4}, w, b), images + "[1, 4, 4]"},
      {said({3, 2, 4, 4}, w, b), images + "[3, 2, 4, 4]"},
      {said({3, 1, 3, 4}, w, b), images + "[3, 1, 3, 4]"},
      {said({3, 1, 4, 3}, w, b), images + "[3, 1, 4, 3]"},
      {said({3, 1, 6, 7}, {5, 1, 3, 3}, b), weight + "[5, 1, 3, 3]"},
      {said({3, 1, 6, 7}, {2, 5, 2, 3, 3}, b), weight + "[2, 5, 2, 3, 3]"},
      {said({3, 1, 6, 7}, {2, 5, 1, 4, 3}, b), weight + "[2, 5, 1, 4, 3]"},
      {said({3, 1, 6, 7}, {2, 5, 1, 3, 4}, b), weight + "[2, 5, 1, 3, 4]"},
      {said({3, 1, 6, 7}, w, {10}), bias + "[10]"},
      {said({3, 1, 6, 7}, w, {3, 5}), bias + "[3, 5]"},
      {said({3, 1, 6, 7}, w, {2, 4}), bias + "[2, 4]"},
      {refusal([] {
         patch3x3_moments(torch::zeros({2, 1, 4, 3}));
       }),
       "patch3x3_moments: images must be [N, 1, H >= 4, W >= 4]; got [2, 1, 4, 3]"},
  });
  const auto x = torch::zeros({3, 1, 4, 5});
  EXPECT_TRUE(can_fuse_conv3x3(x, 3, 0));
  EXPECT_TRUE(can_fuse_conv3x3(torch::zeros({3, 1, 5, 4}), 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(x, 5, 0));
  EXPECT_FALSE(can_fuse_conv3x3(x, 2, 0));
  EXPECT_FALSE(can_fuse_conv3x3(x, 3, 1));
  EXPECT_FALSE(can_fuse_conv3x3(x[0], 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(torch::zeros({3, 2, 4, 5}), 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(torch::zeros({3, 1, 3, 5}), 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(torch::zeros({3, 1, 4, 3}), 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(x.to(torch::kFloat64), 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(x.to(torch::kMeta), 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(torch::zeros({3, 1, 5, 4}).transpose(2, 3), 3, 0));
  EXPECT_FALSE(can_fuse_conv3x3(x.clone().requires_grad_(), 3, 0));
}

TEST(Refusals, OfGroupedAndStackedMaps) {
  const auto w = torch::zeros({3, 5, 4});
  const auto said = [](const torch::Tensor& x, const torch::Tensor& weight,
                       const torch::Tensor& bias, const std::vector<int64_t>& offsets) {
    return refusal([&] { grouped_linear(x, weight, bias, offsets); });
  };
  const auto x = torch::zeros({7, 4});
  const std::string rise = "grouped_linear: offsets must rise from 0 to 7 in 3 steps";
  const std::string type = "grouped_linear: x, weight and bias must be of one type; got ";
  const auto f64 = torch::kFloat64;
  expect_said({
      {said(x, w, {}, {0, 2, 2, 7}), kTaken},
      {said(x, w, torch::zeros({3, 5}), {0, 0, 7, 7}), kTaken},
      {said(x[0], w, {}, {0, 2, 2, 7}), "grouped_linear: x must be [A, D]; got [4]"},
      {said(x, w[0], {}, {0, 2, 2, 7}), "grouped_linear: weight must be [E, O, D]; got [5, 4]"},
      {said(torch::zeros({7, 5}), w, {}, {0, 2, 2, 7}),
       "grouped_linear: x has 5 features; the weights take 4"},
      {said(x.to(f64), w, {}, {0, 2, 2, 7}), type + "double, float and float"},
      {said(x, w.to(f64), {}, {0, 2, 2, 7}), type + "float, double and double"},
      {said(x, w, torch::zeros({3, 5}, f64), {0, 2, 2, 7}), type + "float, float and double"},
      {said(x, w, torch::zeros({15}), {0, 2, 2, 7}),
       "grouped_linear: bias must be [E, O] = [3, 5]"},
      {said(x, w, torch::zeros({2, 5}), {0, 2, 2, 7}),
       "grouped_linear: bias must be [E, O] = [3, 5]"},
      {said(x, w, torch::zeros({3, 4}), {0, 2, 2, 7}),
       "grouped_linear: bias must be [E, O] = [3, 5]"},
      {said(x, w, {}, {0, 2, 7}), rise},
      {said(x, w, {}, {0, 2, 2, 7, 7}), rise},
      {said(x, w, {}, {1, 2, 2, 7}), rise},
      {said(x, w, {}, {0, 2, 2, 6}), rise},
      {said(x, w, {}, {0, 4, 2, 7}), rise},
      {refusal([&] {
         stacked_linear(torch::zeros({3, 7, 4}), w, {});
       }),
       kTaken},
      {refusal([&] { stacked_linear(torch::zeros({4}), w, {}); }),
       "stacked_linear: x must be [N, D] or [E, N, D]; got [4]"},
      {refusal([&] {
         stacked_linear(torch::zeros({2, 7, 4}), w, {});
       }),
       "stacked_linear: x must be [N, D] or [E, N, D]; got [2, 7, 4]"},
      {refusal([&] {
         stacked_linear(torch::zeros({1, 3, 7, 4}), w, {});
       }),
       "stacked_linear: x must be [N, D] or [E, N, D]; got [1, 3, 7, 4]"},
      {refusal([&] {
         stacked_linear(torch::zeros({7, 3}), w, {});
       }),
       "stacked_linear: x has 3 features; the weights take 4"},
  });
}

TEST(Refusals, OfCrossEntropies) {
  const auto h = torch::zeros({3, 4});
  const auto w = torch::zeros({5, 4});
  const std::string wants = ": wants hidden [N, D], weight [V, D] and target [N] int64; got ";
  struct Wrong {
    torch::Tensor hidden, weight, target;
    std::string message;
  };
  const std::vector<Wrong> table{
      {h[0], w, longs({0, 1, 2}), wants + "[4], [5, 4] and [3] long int"},
      {h, w[0], longs({0, 1, 2}), wants + "[3, 4], [4] and [3] long int"},
      {h, torch::zeros({5, 3}), longs({0, 1, 2}), wants + "[3, 4], [5, 3] and [3] long int"},
      {h, w, longs({0, 1, 2}).unsqueeze(1), wants + "[3, 4], [5, 4] and [3, 1] long int"},
      {h, w, longs({0, 1}), wants + "[3, 4], [5, 4] and [2] long int"},
      {h, w, longs({0, 1, 2}).to(torch::kInt), wants + "[3, 4], [5, 4] and [3] int"},
      {h.narrow(0, 0, 0), w, torch::empty({0}, torch::kLong), ": there are no rows"},
      {h, w, longs({4, 0, 5}), ": targets must be 0..4; got 5"},
      {h, w, longs({4, -1, 7}), ": targets must be 0..4; got -1"},
  };
  for (const auto& wrong : table) {
    EXPECT_EQ(refusal([&] { linear_cross_entropy(wrong.hidden, wrong.weight, wrong.target); }),
              "linear_cross_entropy" + wrong.message);
    EXPECT_EQ(refusal([&] { linear_token_losses(wrong.hidden, wrong.weight, wrong.target); }),
              "linear_token_losses" + wrong.message);
  }
  EXPECT_NEAR(
      linear_cross_entropy(h.narrow(0, 0, 1), w, torch::zeros({1}, torch::kLong)).item<double>(),
      std::log(5.0), 1e-6);
}

TEST(Refusals, OfRoutings) {
  const auto logits = torch::zeros({4, 3});
  const auto said = [&](int64_t top_k) { return refusal([&] { route(logits, top_k); }); };
  const auto listed = [&](const torch::Tensor& token, const torch::Tensor& expert,
                          const torch::Tensor& weight) {
    return refusal([&] { route_assignments(logits, token, expert, weight); });
  };
  const std::string list =
      "route_assignments: token and expert must be int64 and as long as weight [A]; got ";
  const auto two = longs({0, 2});
  const auto routing = route(logits, 2);
  const auto plan = make_plan(routing);
  const double infinity = std::numeric_limits<double>::infinity();
  const std::string factor = "capacity_factor must be finite and at least 0; got ";
  expect_said({
      {said(0), kTaken},
      {said(3), kTaken},
      {said(4), "route: top_k must be 0 (all) or 1..3 (num_experts); got 4"},
      {said(-1), "route: top_k must be 0 (all) or 1..3 (num_experts); got -1"},
      {refusal([] { route(torch::zeros({3})); }), "route: logits must be [N, E]; got [3]"},
      {refusal([&] { route_assignments(logits[0], two, two, torch::ones({2})); }),
       "route_assignments: logits must be [N, E]; got [3]"},
      {listed(two, two, torch::ones({2})), kTaken},
      {listed(longs({0}), two, torch::ones({2})), list + "[1] long int, [2] long int and [2]"},
      {listed(two, longs({0}), torch::ones({2})), list + "[2] long int, [1] long int and [2]"},
      {listed(two, two, torch::ones({2, 1})), list + "[2] long int, [2] long int and [2, 1]"},
      {listed(two.to(torch::kInt), two, torch::ones({2})), list + "[2] int, [2] long int and [2]"},
      {listed(two, two.to(torch::kInt), torch::ones({2})), list + "[2] long int, [2] int and [2]"},
      {listed(two.unsqueeze(1), two, torch::ones({2})),
       list + "[2, 1] long int, [2] long int and [2]"},
      {refusal([&] { make_plan(routing, 0, torch::arange(7)); }),
       "make_plan: order must be [8] int64"},
      {refusal([&] { make_plan(routing, 0, torch::arange(8, torch::kInt)); }),
       "make_plan: order must be [8] int64"},
      {refusal([&] { make_plan(routing, 0, torch::arange(8)); }), kTaken},
      {refusal([&] { make_plan(two, 3); }),
       "make_plan: expert_index must be [N, K] int64; got [2] long int"},
      {refusal([&] {
         make_plan(torch::zeros({2, 1}), 3);
       }),
       "make_plan: expert_index must be [N, K] int64; got [2, 1] float"},
      {refusal([&] { weighted(plan, torch::ones({7})); }), "weighted: weight must be [8]; got [7]"},
      {refusal([&] {
         weighted(plan, torch::ones({8, 1}));
       }),
       "weighted: weight must be [8]; got [8, 1]"},
      {refusal([&] { expert_capacity(-0.5, 10, 8); }), factor + "-0.5"},
      {refusal([&] { expert_capacity(infinity, 10, 8); }), factor + "inf"},
      {refusal([&] {
         top_k_index(longs({0, 2}), 1);
       }),
       "top_k_index: scores must be [N, E] of a floating dtype; got [2] long int"},
      {refusal([&] {
         top_k_index(torch::zeros({2, 3}, torch::kLong), 1);
       }),
       "top_k_index: scores must be [N, E] of a floating dtype; got [2, 3] long int"},
      {refusal([&] { top_k_index(torch::zeros({3}), 1); }),
       "top_k_index: scores must be [N, E] of a floating dtype; got [3] float"},
      {refusal([&] { top_k_index(logits, 4); }), "top_k_index: K must be 0..3; got 4"},
      {refusal([&] { top_k_index(logits, -1); }), "top_k_index: K must be 0..3; got -1"},
      {refusal([&] { top_k_index(logits, 0); }), kTaken},
      {refusal([&] { top_k_index(logits, 3); }), kTaken},
      {refusal([&] { check_top_k(3, 3, "here."); }), kTaken},
      {refusal([&] { check_top_k(0, 3, "here."); }), kTaken},
      {refusal([&] { check_top_k(4, 3, "here."); }),
       "here.top_k must be 0 (all) or 1..3 (num_experts); got 4"},
      {refusal([&] { check_top_k(-1, 3, "here."); }),
       "here.top_k must be 0 (all) or 1..3 (num_experts); got -1"},
  });
  using W = CombineWeights;
  const std::string one = "there is one expert, whose weight is 1 whatever the router says";
  expect_said({
      {why_no_gradient(0, 1, W::kProbs), one},
      {why_no_gradient(1, 1, W::kRenormalized), one},
      {why_no_gradient(0, 1, W::kLogits), ""},
      {why_no_gradient(0, 2, W::kRenormalized), ""},
      {why_no_gradient(2, 2, W::kRenormalized), ""},
      {why_no_gradient(1, 2, W::kProbs), ""},
      {why_no_gradient(1, 2, W::kRenormalized),
       "top_k = 1 with combine_weights = \"renormalized\" gives the weight 1 whatever the router "
       "says"},
  });
}

TEST(Refusals, OfRoutersThatCannotLearnOrCan) {
  const auto said = [](bool learns, bool aux_only, const std::string& why) {
    RouterTraits traits;
    traits.learns = learns;
    traits.aux_only = aux_only;
    return refusal([&] { check_trainable(traits, why, "here: "); });
  };
  expect_said({
      {said(true, false, ""), kTaken},
      {said(true, true, "a reason"), kTaken},
      {said(false, false, "a reason"), kTaken},
      {said(false, true, ""), kTaken},
      {said(true, false, "a reason"),
       "here: a reason: the task's loss cannot train the router. Take combine_weights = \"probs\" "
       "with more than one expert, or aux_only = true where losses on routing alone train it"},
      {said(true, true, ""),
       "here: aux_only = true: this router gets a gradient from the task's loss; wanted false"},
  });
}

TEST(Refusals, OfCapacities) {
  const auto said = [](int64_t top_k, const auto& change, int64_t num_free = 0) {
    CapacityOptions options;
    options.factor = 1;
    change(options);
    return refusal([&] { check_capacity(options, top_k, num_free, "model."); });
  };
  using O = CapacityOptions;
  const double infinity = std::numeric_limits<double>::infinity();
  const std::string factor = "model.capacity_factor must be finite and at least 0; got ";
  const std::string eval = "model.eval_capacity_factor must be finite and at least 0, or -1; got ";
  const std::string never =
      "model.min_capacity, capacity_tau, capacity_priority and renormalize_dropped want a "
      "capacity_factor or eval_capacity_factor above 0: this layer never drops";
  const std::string tau = "model.capacity_tau must be finite and above 0; got ";
  expect_said({
      {said(2, [](O& o) { o.factor = -0.5; }), factor + "-0.5"},
      {said(2, [&](O& o) { o.factor = infinity; }), factor + "inf"},
      {said(2, [](O& o) { o.eval_factor = -0.5; }), eval + "-0.5"},
      {said(2, [](O& o) { o.eval_factor = -2; }), eval + "-2"},
      {said(2, [&](O& o) { o.eval_factor = infinity; }), eval + "inf"},
      {said(2, [](O& o) { o.eval_factor = 0; }), kTaken},
      {said(2, [](O& o) { o.eval_factor = -1; }), kTaken},
      {said(2, [](O& o) { o.least = 0; }), "model.min_capacity must be at least 1; got 0"},
      {said(2, [](O& o) { o.least = 5; }), kTaken},
      {said(
           2, [](O& o) { o.tau = 0; }, 1),
       tau + "0"},
      {said(
           2, [&](O& o) { o.tau = infinity; }, 1),
       tau + "inf"},
      {said(2, [](O& o) { o.tau = 0.5; }),
       "model.capacity_tau: all experts of this layer compute; wanted 1, or expert.kind = "
       "\"zero_computation\""},
      {said(
           2, [](O& o) { o.tau = 0.5; }, 1),
       kTaken},
      {said(
           2, [](O& o) { o.tau = 0.5, o.factor = 0; }, 1),
       never},
      {said(1, [](O& o) { o.renormalize = true; }),
       "model.renormalize_dropped wants a top_k above 1: a token with one choice keeps it or none"},
      {said(2, [](O& o) { o.renormalize = true; }), kTaken},
      {said(0, [](O& o) { o.renormalize = true; }), kTaken},
      {said(1, [](O&) {}), kTaken},
      {said(2, [](O& o) { o.factor = 0; }), kTaken},
      {said(2, [](O& o) { o.factor = o.eval_factor = 0; }), kTaken},
      {said(2, [](O& o) { o.factor = 0, o.least = 2; }), never},
      {said(2, [](O& o) { o.factor = 0, o.eval_factor = 0, o.least = 2; }), never},
      {said(2, [](O& o) { o.factor = 0, o.eval_factor = 0.5, o.least = 2; }), kTaken},
      {said(2, [](O& o) { o.factor = 0, o.renormalize = true; }), never},
      {said(2, [](O& o) { o.factor = 0, o.priority = CapacityPriority::kRank; }), never},
  });
  const auto logits = torch::tensor({{1.0, 2.0}, {-3.0, -1.5}});
  const auto routing = route(logits, 1, CombineWeights::kLogits);
  EXPECT_EQ(refusal([&] { renormalize_kept(routing.weight, routing, make_plan(routing)); }),
            "renormalize_dropped: weights must be at least 0; token 1 has -1.5");
  auto ranked = [&](std::vector<int64_t> token) {
    auto listed = route_assignments(logits, longs({0, 0, 0}), longs({0, 1, 0}), torch::ones({3}));
    listed.token = longs(std::move(token));
    return refusal([&] { capacity_order(CapacityPriority::kRank, listed); });
  };
  EXPECT_EQ(ranked({0, 1, 1}), kTaken);
  EXPECT_EQ(ranked({0, 2, 1}), "capacity: assignment 1 is of token 2; there are 2");
  EXPECT_EQ(ranked({0, 1, -1}), "capacity: assignment 2 is of token -1; there are 2");
}

TEST(Refusals, OfMatrixProducts) {
  const auto checked = [](ProductShape shape) {
    return refusal([&] { check_product_shape(shape, "here"); });
  };
  const std::string odd =
      "here: an odd number of factors from 3 on is wanted, so that one is in the middle; got ";
  const int64_t big = 1 << 16;
  expect_said({
      {checked({{2, 3, 4}, {1, 2, 3}}), kTaken},
      {checked({{2, 3, 4, 1}, {1, 2, 3}}), "here: 4 factors of one size and 3 of the other"},
      {checked({{2}, {1}}), odd + "1"},
      {checked({{2, 3}, {1, 2}}), odd + "2"},
      {checked({{2, 3, 4, 5}, {1, 2, 3, 4}}), odd + "4"},
      {checked({{2, 0, 4}, {1, 2, 3}}), "here: factors must be at least 1; got 0"},
      {checked({{2, 3, 4}, {1, 2, -3}}), "here: factors must be at least 1; got -3"},
      {checked({{big, big / 2, 1}, {1, big, big / 2}}), kTaken},
      {checked({{big, big, 1}, {1, 1, 1}}), "here: the factors' product is beyond 2^31"},
      {checked({{1, 1, 1}, {big, 1, big}}), "here: the factors' product is beyond 2^31"},
  });
  const auto balanced = [](int64_t size, int64_t count) {
    return refusal([&] { balanced_factors(size, count); });
  };
  const std::string wants =
      "balanced_factors: wants a size from 1 and an odd number of factors; got ";
  const ProductShape shape{{2, 3, 4}, {1, 2, 3}};
  const auto cut = [&](at::IntArrayRef sizes, int64_t bond = 0) {
    return refusal([&] { decompose(torch::ones(sizes), shape, bond); });
  };
  const std::string of = "decompose: the factors are of a matrix [24, 6]; got ";
  expect_said({
      {balanced(1, 1), kTaken},
      {balanced(0, 3), wants + "0 and 3"},
      {balanced(8, 4), wants + "8 and 4"},
      {balanced(8, -1), wants + "8 and -1"},
      {refusal([&] {
         bonds_of({{2, 3}, {1, 2}});
       }),
       "bonds_of: an odd number of factors from 3 on is wanted, so that one is in the middle; got "
       "2"},
      {refusal([&] { bonds_of(shape, -1); }), "bonds_of: max_bond must be at least 0; got -1"},
      {cut({24, 6}), kTaken},
      {cut({24, 6}, 1), kTaken},
      {cut({144}), of + "[144]"},
      {cut({23, 6}), of + "[23, 6]"},
      {cut({24, 7}), of + "[24, 7]"},
      {refusal([] { truncation_bound({}, 1); }), kTaken},
      {refusal([] { truncation_bound({}, 0); }),
       "truncation_bound: max_bond must be at least 1; got 0"},
  });
  const auto rebuilt = [](std::vector<std::vector<int64_t>> sizes) {
    std::vector<torch::Tensor> tensors;
    for (const auto& of_one : sizes) tensors.push_back(torch::zeros(of_one));
    return refusal([&] { rebuild(tensors); });
  };
  const std::string dims = "rebuild: tensors must be [b, i, j, b'] or [E, b, i, j, b']; got ";
  expect_said({
      {rebuilt({}), "rebuild: no tensors"},
      {rebuilt({{1, 2, 3, 4}, {4, 2, 3, 1}}), kTaken},
      {rebuilt({{1, 2, 3}}), dims + "[1, 2, 3]"},
      {rebuilt({{1, 1, 1, 2, 3, 1}}), dims + "[1, 1, 1, 2, 3, 1]"},
      {rebuilt({{5, 1, 2, 3, 4}, {6, 4, 2, 3, 1}}), "rebuild: stacks of 5 and 6 tensors"},
      {rebuilt({{5, 1, 2, 3, 4}, {4, 2, 3, 2}, {5, 2, 1, 1, 1}}), kTaken},
      {rebuilt({{1, 2, 3, 4}, {5, 2, 3, 1}}),
       "rebuild: a bond has 4 indices on its left and 5 on its right"},
      {rebuilt({{2, 2, 3, 1}}), "rebuild: a bond has 1 indices on its left and 2 on its right"},
      {rebuilt({{1, 2, 3, 4}}), "rebuild: the last bond has 4 indices; 1 is wanted"},
  });
}

TEST(Refusals, OfAssignmentsAndVectors) {
  const std::string codes = "weight_codes: wants matrices [..., O, D]; got ";
  const std::string norm = "RmsNorm: size must be at least 1 and eps at least 0; got ";
  const std::string table = "rotary_table: wanted an even size of at least 2 and theta > 0; got ";
  const std::string linear = "BitLinear: sizes must be at least 1; got ";
  const auto coded = [](at::IntArrayRef sizes) {
    return refusal([&] { weight_codes(torch::ones(sizes), WeightLevels::kTernary); });
  };
  const auto turns = rotary_table(6, 4, 10);
  const auto turned = [&](at::IntArrayRef sizes, int64_t first) {
    return refusal([&] { apply_rotary(torch::ones(sizes), turns, first); });
  };
  const std::string rotary =
      "apply_rotary: x must be [B, T, H, d], with d >= 4 and positions up to 6; got ";
  expect_said({
      {refusal([] {
         balanced_assignment(torch::zeros({6, 3}));
       }),
       kTaken},
      {refusal([] { balanced_assignment(torch::zeros({6})); }),
       "balanced_assignment: scores must be [T, E]; got [6]"},
      {refusal([] {
         balanced_assignment(torch::zeros({6, 0}));
       }),
       "balanced_assignment: scores must be [T, E]; got [6, 0]"},
      {refusal([] {
         balanced_assignment(torch::zeros({7, 3}));
       }),
       "balanced_assignment: 7 tokens cannot be dealt out evenly to 3 experts"},
      {refusal([] {
         orthogonalize(torch::ones({2, 3, 3}));
       }),
       kTaken},
      {refusal([] {
         orthogonalize(torch::ones({3, 4}));
       }),
       "orthogonalize: vectors must be [N, n, O]; got [3, 4]"},
      {refusal([] {
         orthogonalize(torch::ones({2, 4, 3}));
       }),
       "orthogonalize: 4 vectors cannot be orthogonal in 3 dimensions"},
      {refusal([] {
         mean_cosine(torch::ones({3, 4}));
       }),
       "mean_cosine: vectors must be [N, n, O]; got [3, 4]"},
      {coded({1, 1}), kTaken},
      {coded({3}), codes + "[3]"},
      {coded({3, 0}), codes + "[3, 0]"},
      {coded({0, 3}), codes + "[0, 3]"},
      {refusal([] {
         weight_codes(torch::ones({2, 3}), WeightLevels::kFloat);
       }),
       "weight_codes: float weights have no codes"},
      {refusal([] { BitLinear(BitLinearOptions(1, 1)); }), kTaken},
      {refusal([] { BitLinear(BitLinearOptions(0, 5)); }), linear + "0 and 5"},
      {refusal([] { BitLinear(BitLinearOptions(5, 0)); }), linear + "5 and 0"},
      {refusal([] {
         rms_norm(torch::ones({2, 3}), torch::ones({3}), 0);
       }),
       kTaken},
      {refusal([] {
         rms_norm(torch::ones({2, 3}), torch::ones({4}), 0);
       }),
       "rms_norm: x must be [..., 4]; got [2, 3]"},
      {refusal([] {
         rms_norm(torch::ones({2, 3}), torch::ones({1, 3}), 0);
       }),
       "rms_norm: x must be [..., 3]; got [2, 3]"},
      {refusal([] { rms_norm(torch::ones({}), torch::ones({1}), 0); }),
       "rms_norm: x must be [..., 1]; got []"},
      {refusal([] { RmsNorm(1, 0); }), kTaken},
      {refusal([] { RmsNorm(0, 0.5); }), norm + "0 and 0.5"},
      {refusal([] { RmsNorm(3, -0.5); }), norm + "3 and -0.5"},
      {refusal([] { rotary_table(0, 2, 0.5); }), kTaken},
      {refusal([] { rotary_table(-1, 2, 0.5); }), table + "2 and 0.5"},
      {refusal([] { rotary_table(3, 0, 0.5); }), table + "0 and 0.5"},
      {refusal([] { rotary_table(3, 5, 0.5); }), table + "5 and 0.5"},
      {refusal([] { rotary_table(3, 4, 0); }), table + "4 and 0"},
      {refusal([] { rotary_table(3, 4, std::numeric_limits<double>::infinity()); }),
       table + "4 and inf"},
      {turned({2, 6, 3, 4}, 0), kTaken},
      {turned({2, 2, 3, 5}, 4), kTaken},
      {turned({6, 3, 4}, 0), rotary + "[6, 3, 4] from position 0"},
      {turned({2, 6, 3, 3}, 0), rotary + "[2, 6, 3, 3] from position 0"},
      {turned({2, 3, 3, 4}, 4), rotary + "[2, 3, 3, 4] from position 4"},
      {turned({2, 3, 3, 4}, -1), rotary + "[2, 3, 3, 4] from position -1"},
      {refusal([] { Runtime(0); }), kTaken},
      {refusal([] { Runtime(-1); }), "Runtime: threads must be at least 0; got -1"},
  });
}

}  // namespace
}  // namespace moekit::nn
