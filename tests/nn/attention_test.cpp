#include "moekit/nn/attention.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>

#include "moekit/core/error.h"
#include "moekit/kernels/attention/attention.h"
#include "moekit/nn/rms_norm.h"
#include "moekit/nn/rotary.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

struct AttentionCase {
  int64_t batch, queries, keys, heads, kv_heads, dim, value_dim;
  bool limited = false;  ///< some queries begin later, some see nothing
};

torch::Tensor drawn(at::IntArrayRef sizes, uint64_t seed) {
  return torch::empty(sizes).normal_(0, 1, tensor::make_generator(seed));
}

/// Documents of 1 to 9 tokens, and a few positions of padding.
torch::Tensor some_first(const AttentionCase& c) {
  auto first = torch::zeros({c.batch, c.queries}, torch::kInt);
  const int64_t offset = c.keys - c.queries;
  for (int64_t b = 0; b < c.batch; ++b) {
    int32_t begin = 0;
    for (int64_t t = 0; t < c.queries; ++t) {
      const int64_t at = offset + t;
      if ((at * 7 + b) % 9 == 0) begin = static_cast<int32_t>(at);
      first[b][t] = t % 11 == 5 ? static_cast<int32_t>(at + 1) : begin;
    }
  }
  return first;
}

const AttentionCase kAttentionCases[] = {
    {1, 1, 1, 1, 1, 2, 2},           {2, 5, 5, 2, 2, 8, 8},
    {1, 64, 64, 2, 1, 16, 16},       {2, 65, 65, 4, 2, 20, 12},
    {1, 131, 200, 3, 3, 33, 17},     {1, 1, 97, 4, 1, 64, 64},
    {2, 70, 70, 2, 2, 16, 16, true}, {1, 130, 150, 4, 2, 24, 40, true},
};

TEST(CausalAttention, KernelAndOperationsAgreeInValuesAndGradients) {
  for (const auto& c : kAttentionCases) {
    SCOPED_TRACE(testing::Message() << c.queries << " of " << c.keys << ", heads " << c.heads << "/"
                                    << c.kv_heads << ", dims " << c.dim << ", " << c.value_dim);
    const auto q = drawn({c.batch, c.queries, c.heads, c.dim}, 1).requires_grad_();
    const auto k = drawn({c.batch, c.keys, c.kv_heads, c.dim}, 2).requires_grad_();
    const auto v = drawn({c.batch, c.keys, c.kv_heads, c.value_dim}, 3).requires_grad_();
    AttentionSettings settings;
    settings.scale = 0.7;
    if (c.limited) settings.first = some_first(c);
    ASSERT_EQ(why_attention_not_fused(q, k, v), "");
    const auto fused = causal_attention(q, k, v, settings);
    const auto g = drawn(fused.sizes(), 4);
    const auto got = torch::autograd::grad({fused}, {q, k, v}, {g});
    const auto in_double = [](const torch::Tensor& x) {
      return x.detach().to(torch::kFloat64).requires_grad_();
    };
    const auto q64 = in_double(q);
    const auto k64 = in_double(k);
    const auto v64 = in_double(v);
    const auto composed = composed_attention(q64, k64, v64, settings);
    const auto want = torch::autograd::grad({composed}, {q64, k64, v64}, {g.to(torch::kFloat64)});
    EXPECT_TRUE(torch::allclose(fused.to(torch::kFloat64), composed, 1e-5, 2e-6));
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(torch::allclose(got[i].to(torch::kFloat64), want[i], 1e-4, 1e-5)) << i;
    }
  }
}

TEST(CausalAttention, OfBfloat16IsThatOfItsFloatsRoundedOnce) {
  for (const auto& c : kAttentionCases) {
    SCOPED_TRACE(testing::Message() << c.queries << " of " << c.keys << ", dims " << c.dim);
    AttentionSettings settings;
    settings.scale = 0.7;
    if (c.limited) settings.first = some_first(c);
    const auto gradient = drawn({c.batch, c.queries, c.heads, c.value_dim}, 4).to(torch::kBFloat16);
    // Values, and gradients of queries, keys and values.
    const auto found = [&](torch::ScalarType type) {
      std::vector<torch::Tensor> inputs;
      uint64_t seed = 0;
      for (const auto& sizes : {std::vector<int64_t>{c.batch, c.queries, c.heads, c.dim},
                                {c.batch, c.keys, c.kv_heads, c.dim},
                                {c.batch, c.keys, c.kv_heads, c.value_dim}}) {
        inputs.push_back(drawn(sizes, ++seed).to(torch::kBFloat16).to(type).requires_grad_());
      }
      EXPECT_EQ(why_attention_not_fused(inputs[0], inputs[1], inputs[2]), "");
      const auto out = causal_attention(inputs[0], inputs[1], inputs[2], settings);
      EXPECT_EQ(out.scalar_type(), type);
      auto all = torch::autograd::grad({out}, inputs, {gradient.to(type)});
      all.push_back(out.detach());
      return all;
    };
    const auto floats = found(torch::kFloat32);
    const auto halves = found(torch::kBFloat16);
    for (size_t i = 0; i < floats.size(); ++i) {
      EXPECT_TRUE(torch::equal(floats[i].to(torch::kBFloat16), halves[i])) << i;
    }
  }
  const auto x = drawn({1, 3, 1, 4}, 9);
  EXPECT_NE(why_attention_not_fused(x, x.to(torch::kBFloat16), x), "");
}

TEST(CausalAttention, EveryInstructionSetAgrees) {
  const AttentionCase c{2, 70, 90, 4, 2, 24, 40, true};
  const auto q = drawn({c.batch, c.queries, c.heads, c.dim}, 1);
  const auto k = drawn({c.batch, c.keys, c.kv_heads, c.dim}, 2);
  const auto v = drawn({c.batch, c.keys, c.kv_heads, c.value_dim}, 3);
  const auto first = some_first(c);
  const kernels::AttentionShape shape{c.batch,    c.queries, c.keys,      c.heads,
                                      c.kv_heads, c.dim,     c.value_dim, 0.5F};
  const kernels::AttentionInputs inputs{{q.data_ptr<float>(), c.heads * c.dim},
                                        {k.data_ptr<float>(), c.kv_heads * c.dim},
                                        {v.data_ptr<float>(), c.kv_heads * c.value_dim},
                                        first.data_ptr<int32_t>()};
  AttentionSettings settings;
  settings.scale = 0.5;
  settings.first = first;
  const auto want = composed_attention(q, k, v, settings);
  for (const auto isa : kernels::supported_isas()) {
    for (const int threads : {1, 3}) {
      kernels::ThreadPool pool(threads);
      kernels::Slab memory;
      auto out = torch::full({c.batch, c.queries, c.heads, c.value_dim}, 7.0F);
      auto normalizer = torch::empty({c.batch, c.heads, c.queries});
      kernels::attention_forward(shape, inputs, out.data_ptr<float>(), normalizer.data_ptr<float>(),
                                 pool, memory, isa);
      EXPECT_TRUE(torch::allclose(out, want, 1e-5, 2e-6)) << kernels::isa_name(isa);
    }
  }
}

TEST(CausalAttention, NumbersDoNotDependOnTheThreads) {
  const auto q = drawn({1, 900, 2, 16}, 1);
  const auto k = drawn({1, 900, 1, 16}, 2);
  const auto v = drawn({1, 900, 1, 16}, 3);
  AttentionSettings one;
  one.runtime = std::make_shared<Runtime>(1);
  AttentionSettings three;
  three.runtime = std::make_shared<Runtime>(3);
  EXPECT_TRUE(torch::equal(causal_attention(q, k, v, one), causal_attention(q, k, v, three)));
}

TEST(CausalAttention, LaterKeysChangeNothing) {
  auto k = drawn({1, 80, 2, 8}, 2);
  auto v = drawn({1, 80, 2, 8}, 3);
  const auto q = drawn({1, 80, 2, 8}, 1);
  const auto before = causal_attention(q, k, v, {});
  k.narrow(1, 50, 30).fill_(100);
  v.narrow(1, 50, 30).fill_(-3);
  const auto after = causal_attention(q, k, v, {});
  EXPECT_TRUE(torch::equal(before.narrow(1, 0, 50), after.narrow(1, 0, 50)));
  EXPECT_FALSE(torch::equal(before.narrow(1, 50, 30), after.narrow(1, 50, 30)));
}

TEST(CausalAttention, LargeScoresStayFinite) {
  const auto q = drawn({1, 100, 1, 8}, 1) * 1000;
  const auto k = drawn({1, 100, 1, 8}, 2) * 1000;
  const auto v = drawn({1, 100, 1, 8}, 3);
  const auto out = causal_attention(q, k, v, {});
  EXPECT_TRUE(torch::isfinite(out).all().item<bool>());
  EXPECT_TRUE(torch::allclose(out, composed_attention(q, k, v, {}), 1e-3, 1e-3));
}

TEST(CausalAttention, ReadsPartsOfOneProjectionInPlace) {
  const auto all = drawn({2, 40, 4 * 8}, 1);
  const auto q = all.narrow(2, 0, 16).view({2, 40, 2, 8});
  const auto k = all.narrow(2, 16, 8).view({2, 40, 1, 8});
  const auto v = all.narrow(2, 24, 8).view({2, 40, 1, 8});
  const auto out = causal_attention(q, k, v, {});
  EXPECT_TRUE(
      torch::equal(out, causal_attention(q.contiguous(), k.contiguous(), v.contiguous(), {})));
}

TEST(CausalAttention, SecondDerivatives) {
  const auto q = drawn({1, 5, 2, 4}, 1).requires_grad_();
  const auto k = drawn({1, 5, 1, 4}, 2).requires_grad_();
  const auto v = drawn({1, 5, 1, 4}, 3).requires_grad_();
  const auto second = [&](const torch::Tensor& out) {
    const auto first =
        torch::autograd::grad({out.square().sum()}, {q, k}, {}, true, /*create_graph=*/true);
    return torch::autograd::grad({first[0].square().sum() + first[1].square().sum()}, {q, k, v});
  };
  const auto got = second(causal_attention(q, k, v, {}));
  const auto want = second(composed_attention(q, k, v, {}));
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(torch::allclose(got[i], want[i], 1e-3, 1e-4)) << i;
}

TEST(CausalAttention, RefusesWhatDoesNotFit) {
  const auto q = drawn({1, 4, 3, 8}, 1);
  const auto k = drawn({1, 4, 2, 8}, 2);
  EXPECT_THROW(causal_attention(q, k, k, {}), ArgumentError);  // 3 heads on 2
  const auto few = drawn({1, 3, 3, 8}, 2);
  EXPECT_THROW(causal_attention(q, few, few, {}), ArgumentError);  // more queries than keys
  AttentionSettings settings;
  settings.first = torch::zeros({1, 4}, torch::kLong);
  EXPECT_THROW(causal_attention(q, q, q, settings), ArgumentError);
}

TEST(Rotary, TurnsPairsAndKeepsProductsByDistance) {
  const auto table = rotary_table(50, 8, 100.0);
  const auto x = drawn({1, 1, 1, 10}, 1);
  const auto y = drawn({1, 1, 1, 10}, 2);
  const auto at = [&](const torch::Tensor& v, int64_t t) { return apply_rotary(v, table, t); };
  EXPECT_TRUE(torch::equal(at(x, 0), x));
  EXPECT_TRUE(torch::equal(at(x, 9).narrow(3, 8, 2), x.narrow(3, 8, 2)));  // beyond r: pass
  const auto product = [&](int64_t s, int64_t t) { return (at(x, s) * at(y, t)).sum(); };
  EXPECT_TRUE(torch::allclose(product(3, 10), product(33, 40), 1e-4, 1e-4));
  EXPECT_FALSE(torch::allclose(product(3, 10), product(3, 12), 1e-2, 1e-2));
  // Pair 1 of 4 turns by t * 100^(-2/8) at position t.
  const double angle = 7 * std::pow(100.0, -0.25);
  const auto turned = at(x, 7).flatten();
  const auto flat = x.flatten();
  EXPECT_NEAR(turned[1].item<double>(),
              flat[1].item<double>() * std::cos(angle) - flat[5].item<double>() * std::sin(angle),
              1e-5);
  EXPECT_NEAR(turned[5].item<double>(),
              flat[5].item<double>() * std::cos(angle) + flat[1].item<double>() * std::sin(angle),
              1e-5);
  EXPECT_THROW(rotary_table(4, 3, 100), ArgumentError);
  try {
    apply_rotary(torch::zeros({1, 2, 3, 6}), table, 0);
    ADD_FAILURE() << "took heads of 6 for positions that turn 8";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(),
                 "apply_rotary: x must be [B, T, H, d], with d >= 8 and positions up to 50; got "
                 "[1, 2, 3, 6] from position 0");
  }
  EXPECT_THROW(apply_rotary(torch::zeros({2, 3, 8}), table, 0), ArgumentError);
  EXPECT_THROW(apply_rotary(torch::zeros({1, 2, 3, 8}), table, 49), ArgumentError);
  EXPECT_THROW(apply_rotary(torch::zeros({1, 2, 3, 8}), table, -1), ArgumentError);
  EXPECT_THROW(at(x, 50), ArgumentError);
}

TEST(RmsNorm, DividesByTheRootOfTheMeanSquare) {
  const auto x = torch::tensor({{3.0F, 4.0F}, {0.0F, 0.0F}});
  const auto out = rms_norm(x, torch::tensor({1.0F, 2.0F}), 0.5);
  const double root = std::sqrt(12.5 + 0.5);
  EXPECT_NEAR(out[0][0].item<double>(), 3 / root, 1e-6);
  EXPECT_NEAR(out[0][1].item<double>(), 8 / root, 1e-6);
  EXPECT_EQ(out[1].abs().sum().item<double>(), 0);
  EXPECT_THROW(rms_norm(x, torch::ones({3}), 0), ArgumentError);
}

TEST(CausalAttention, TakesTensorsHoweverTheyLieInMemory) {
  const auto q = drawn({2, 5, 4, 6}, 1);
  const auto k = drawn({2, 7, 2, 6}, 2);
  const auto v = drawn({2, 7, 2, 3}, 3);
  const auto g = drawn({2, 5, 4, 3}, 4);
  const auto run = [&](const std::vector<torch::Tensor>& x) {
    std::vector<torch::Tensor> leaves;
    for (const auto& t : x) leaves.push_back(t.detach().requires_grad_());
    auto out =
        torch::autograd::grad({causal_attention(leaves[0], leaves[1], leaves[2], {})}, leaves, {g});
    out.push_back(causal_attention(x[0], x[1], x[2], {}));
    return out;
  };
  const auto want = run({q, k, v});
  // The same numbers with other strides.
  const auto copied_to = [](const torch::Tensor& place, const torch::Tensor& x) {
    place.copy_(x);
    return place;
  };
  using Layout = std::function<torch::Tensor(const torch::Tensor&)>;
  const auto wider = [](const torch::Tensor& x, int64_t dim) {
    auto sizes = x.sizes().vec();
    sizes[static_cast<size_t>(dim)] += 3;
    return torch::zeros(sizes).narrow(dim, 1, x.size(dim));
  };
  const std::vector<Layout> layouts{
      [](const torch::Tensor& x) { return x.transpose(2, 3).contiguous().transpose(2, 3); },
      [](const torch::Tensor& x) { return x.transpose(1, 2).contiguous().transpose(1, 2); },
      [](const torch::Tensor& x) { return x.transpose(0, 1).contiguous().transpose(0, 1); },
      [&](const torch::Tensor& x) { return copied_to(wider(x, 1), x); },
      [&](const torch::Tensor& x) { return copied_to(wider(x, 2), x); },
      [&](const torch::Tensor& x) { return copied_to(wider(x, 3), x); },
  };
  for (size_t i = 0; i < layouts.size(); ++i) {
    for (size_t which = 0; which < 3; ++which) {
      std::vector<torch::Tensor> x{q, k, v};
      x[which] = layouts[i](x[which]);
      const auto got = run(x);
      for (size_t j = 0; j < got.size(); ++j) {
        EXPECT_TRUE(torch::allclose(got[j], want[j], 1e-5, 1e-6))
            << i << ", " << which << ", " << j;
      }
    }
  }
  // One row for all positions.
  const auto same = k.narrow(1, 0, 1).expand({2, 7, 2, 6});
  EXPECT_TRUE(torch::equal(causal_attention(q, same, v, {}),
                           causal_attention(q, same.contiguous(), v, {})));
}

TEST(CausalAttention, IsThePlainLoop) {
  // H = 4 query heads on 2 key heads; queries are the last 3 of 5 positions.
  const auto q = drawn({2, 3, 4, 6}, 1);
  const auto k = drawn({2, 5, 2, 6}, 2);
  const auto v = drawn({2, 5, 2, 7}, 3);
  AttentionSettings settings;
  settings.scale = 0.6;
  auto want = torch::zeros({2, 3, 4, 7});
  settings.first = torch::tensor({{0, 1, 5}, {2, 3, 4}}, torch::kInt);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t t = 0; t < 3; ++t) {
      for (int64_t h = 0; h < 4; ++h) {
        const auto first = settings.first[b][t].item<int64_t>();
        const int64_t count = t + 3 - first;
        if (count <= 0) continue;
        const auto keys = k[b].narrow(0, first, count).select(1, h / 2);
        const auto values = v[b].narrow(0, first, count).select(1, h / 2);
        want[b][t][h] = torch::softmax(keys.mv(q[b][t][h]) * 0.6, 0).matmul(values);
      }
    }
  }
  for (const bool fused : {true, false}) {
    settings.fused = fused;
    EXPECT_TRUE(torch::allclose(causal_attention(q, k, v, settings), want, 1e-5, 1e-6)) << fused;
    // And short types, computed in float.
    const auto half = [](const torch::Tensor& x) { return x.to(torch::kBFloat16); };
    const auto narrow = causal_attention(half(q), half(k), half(v), settings);
    EXPECT_EQ(narrow.scalar_type(), torch::kBFloat16);
    const auto exact = composed_attention(half(q).to(torch::kFloat), half(k).to(torch::kFloat),
                                          half(v).to(torch::kFloat), settings);
    EXPECT_TRUE(torch::equal(narrow, half(exact)));
  }
}

TEST(CausalAttention, TheKernelCountsPairsThatAreSeenAndOperationsAll) {
  const auto q = drawn({2, 3, 4, 6}, 1);
  const auto k = drawn({2, 5, 2, 6}, 2);
  const auto v = drawn({2, 5, 2, 7}, 3);
  const auto count = [&](bool fused) {
    AttentionSettings settings;
    settings.fused = fused;
    const tensor::OperationCounter counter;
    causal_attention(q, k, v, settings);
    return counter.total();
  };
  EXPECT_EQ(count(true), 2 * (2 * 4 * (3 + 4 + 5)) * (6 + 7));
  EXPECT_EQ(count(false), 2 * (2 * 4 * 3 * 5) * (6 + 7));
}

TEST(Rotary, TurnsEveryHeadByItsPosition) {
  const auto x = drawn({2, 3, 5, 7}, 4);
  const auto table = rotary_table(9, 4, 50);
  ASSERT_EQ(table.cosine.sizes(), (std::vector<int64_t>{9, 2}));
  const auto out = apply_rotary(x, table, 6);
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t pair = 0; pair < 2; ++pair) {
      const double angle =
          static_cast<double>(6 + t) * std::pow(50.0, -static_cast<double>(pair) / 2);
      const auto a = x.select(1, t).select(2, pair), b = x.select(1, t).select(2, pair + 2);
      const auto got = out.select(1, t);
      EXPECT_TRUE(torch::allclose(got.select(2, pair), a * std::cos(angle) - b * std::sin(angle),
                                  1e-4, 1e-5));
      EXPECT_TRUE(torch::allclose(got.select(2, pair + 2),
                                  b * std::cos(angle) + a * std::sin(angle), 1e-4, 1e-5));
    }
  }
  EXPECT_TRUE(torch::equal(out.narrow(3, 4, 3), x.narrow(3, 4, 3)));
  EXPECT_EQ(apply_rotary(x.narrow(3, 0, 4), table, 0).size(3), 4);
  const auto narrow = apply_rotary(x.to(torch::kBFloat16), table, 6);
  EXPECT_EQ(narrow.scalar_type(), torch::kBFloat16);
}

TEST(RmsNorm, KeepsTypesAndItsWeightStartsAtOne) {
  RmsNorm norm(3, 0.25);
  EXPECT_TRUE(torch::equal(norm->weight, torch::ones({3})));
  EXPECT_EQ(norm->parameters().size(), 1U);
  const auto x = torch::tensor({{{1.0F, 2.0F, 5.0F}}, {{-3.0F, 0.5F, 4.0F}}});
  const auto want = x / (x.square().sum(-1, true) / 3 + 0.25).sqrt();
  EXPECT_TRUE(torch::allclose(norm->forward(x), want, 1e-5, 1e-6));
  const auto narrow = rms_norm(x.to(torch::kBFloat16), norm->weight, 0.25);
  EXPECT_EQ(narrow.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::equal(narrow, want.to(torch::kBFloat16)));
  EXPECT_EQ(rms_norm(x.to(torch::kFloat64), norm->weight, 0.25).scalar_type(), torch::kFloat64);
}

}  // namespace
}  // namespace moekit::nn
