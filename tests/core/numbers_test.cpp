#include "moekit/core/numbers.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "moekit/core/error.h"

namespace moekit {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(ToInteger, TakesWholeNumbersOfItsRangeAndNoOthers) {
  EXPECT_EQ(to_integer(-3, "x"), -3);
  EXPECT_EQ(to_integer(0x1p62, "x"), int64_t{1} << 62);
  EXPECT_EQ(to_integer(-0x1p63, "x"), std::numeric_limits<int64_t>::min());
  for (const double wrong : {0x1p63, -0x1p64, 1e300, 0.5, kInfinity, -kInfinity, std::nan("")}) {
    EXPECT_THROW(to_integer(wrong, "x"), ArgumentError) << wrong;
  }
  EXPECT_THROW(to_integer(11, "x", 0, 10), ArgumentError);
  EXPECT_THROW(to_integer(-1, "x", 0, 10), ArgumentError);
  try {
    to_integer(1e18, "train.time / train.step", 0, 1000);
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_EQ(std::string(error.what()),
              "train.time / train.step must be a whole number in 0..1000; got 1e+18");
  }
}

TEST(RoundToInteger, TakesTheNearest) {
  EXPECT_EQ(round_to_integer(2.4, "x"), 2);
  EXPECT_EQ(round_to_integer(2.5, "x"), 3);
  EXPECT_EQ(round_to_integer(-2.5, "x"), -3);
  EXPECT_THROW(round_to_integer(std::nan(""), "x"), ArgumentError);
}

TEST(CeilOfProduct, DoesNotRoundUpWhatOnlyRoundingMadeLarger) {
  EXPECT_EQ(std::ceil(1.1 * 50), 56);  // what it is for
  EXPECT_EQ(ceil_of_product(1.1 * 50), 55);
  // Decimals times counts whose exact product is a whole number.
  for (int hundredths = 1; hundredths <= 400; ++hundredths) {
    for (int hundreds = 1; hundreds <= 128; hundreds *= 2) {
      EXPECT_EQ(ceil_of_product(hundredths / 100.0 * 100 * hundreds), hundredths * hundreds)
          << hundredths << " " << hundreds;
    }
  }
  EXPECT_EQ(ceil_of_product(2.0001), 3);
  EXPECT_EQ(ceil_of_product(0), 0);
}

}  // namespace
}  // namespace moekit
