#include "moekit/metrics/encoder_operations.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {

// GFLOPs a sequence with 1, 2, 4, 8, 16, 32 experts selected.
struct Published {
  const char* name;
  EncoderShape shape;
  double routed[6];
  double merged[6];  // c = 1
};

// BERT small, base and large with masked-language-model head at 128 tokens; 72.0 and, with c = 2,
// 28.95 for base with four experts are the headline of arXiv:2310.09832, the rest agrees with its
// figure as far as that can be read.
const Published kPublished[] = {
    {"small",
     {4, 512, 2048, 128, 30522},
     {7.4, 9.6, 13.9, 22.5, 39.6, 74.0},
     {7.43, 7.44, 7.46, 7.49, 7.56, 7.69}},
    {"base",
     {12, 768, 3072, 128, 30522},
     {28.5, 43.0, 72.0, 130.0, 245.9, 477.9},
     {28.56, 28.61, 28.73, 28.95, 29.41, 30.31}},
    {"large",
     {24, 1024, 4096, 128, 30522},
     {87.2, 138.7, 241.8, 448.0, 860.3, 1684.9},
     {87.39, 87.59, 87.99, 88.80, 90.41, 93.63}},
};

TEST(EncoderOperations, GiveTheTable) {
  for (const auto& [name, shape, routed, merged] : kPublished) {
    for (int i = 0; i < 6; ++i) {
      const int64_t selected = int64_t{1} << i;
      // Half of the last digit that is printed.
      EXPECT_NEAR(routed_encoder_operations(shape, selected) / 1e9, routed[i], 0.051)
          << name << ", " << selected;
      EXPECT_NEAR(merged_encoder_operations(shape, selected, 1) / 1e9, merged[i], 0.0051)
          << name << ", " << selected;
    }
  }
}

TEST(EncoderOperations, GiveTheBaseModelWithMergingCountedTwice) {
  const EncoderShape base;
  const double twice[] = {28.61, 28.73, 28.95, 29.41, 30.31, 32.12};
  for (int i = 0; i < 6; ++i) {
    EXPECT_NEAR(merged_encoder_operations(base, int64_t{1} << i, 2) / 1e9, twice[i], 0.0051) << i;
  }
}

TEST(EncoderOperations, AreTheSumOfTheirTerms) {
  // D = 1, h = f = 1, V = 1, L = 1: 4 m + (8 + 4) + (2 + 2); merged 4 + 16 + 2 c m.
  const EncoderShape one{1, 1, 1, 1, 1};
  EXPECT_EQ(routed_encoder_operations(one, 3), 28);
  EXPECT_EQ(merged_encoder_operations(one, 3, 2), 32);
}

TEST(EncoderOperations, RefuseSizesThatAreNone) {
  EncoderShape none;
  none.vocabulary = 0;
  none.num_layers = 3;
  none.hidden_size = 5;
  none.intermediate_size = 7;
  none.sequence_length = 9;
  try {
    routed_encoder_operations(none, 2);
    ADD_FAILURE() << "took a vocabulary of nothing";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(),
                 "encoder: sizes and selected experts must be at least 1; got num_layers 3, "
                 "hidden_size 5, intermediate_size 7, sequence_length 9, vocabulary 0 and 2 "
                 "expert(s)");
  }
  EXPECT_THROW(routed_encoder_operations({}, 0), ArgumentError);
  EXPECT_THROW(merged_encoder_operations({}, 1, -1), ArgumentError);
}

}  // namespace
}  // namespace moekit::metrics
