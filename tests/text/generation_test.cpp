#include "moekit/text/generation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "moekit/core/error.h"

namespace moekit::text {
namespace {

TEST(ChooseToken, TakesTheLikeliestAtTemperatureZero) {
  GenerationOptions options;
  options.temperature = 0;
  EXPECT_EQ(choose_token({1, 3, 3, 2}, options, 0.99), 1);  // of equal ones the lower id
}

TEST(ChooseToken, DrawsByTheSoftmaxOfTheScaledLogits) {
  // Shares e^2 : e^1 : e^0 at temperature 1/2, from the likeliest on.
  GenerationOptions options;
  options.temperature = 0.5;
  const std::vector<float> logits{0, 1, 0.5F};
  const double total = std::exp(2) + std::exp(1) + 1;
  EXPECT_EQ(choose_token(logits, options, std::exp(2) / total - 1e-9), 1);
  EXPECT_EQ(choose_token(logits, options, std::exp(2) / total + 1e-9), 2);
  EXPECT_EQ(choose_token(logits, options, (std::exp(2) + std::exp(1)) / total + 1e-9), 0);
  EXPECT_EQ(choose_token(logits, options, 0), 1);
}

TEST(ChooseToken, LeavesOutWhatIsUnlikely) {
  GenerationOptions options;
  const std::vector<float> logits{0, 2, 1};
  options.top_k = 2;
  EXPECT_EQ(choose_token(logits, options, 0.999999), 2);
  options.top_k = 1;
  EXPECT_EQ(choose_token(logits, options, 0.999999), 1);
  options.top_k = 0;
  options.top_p = std::exp(2) / (std::exp(2) + std::exp(1) + 1) - 1e-6;
  EXPECT_EQ(choose_token(logits, options, 0.999999), 1);  // one has the share
  options.top_p += 2e-6;
  EXPECT_EQ(choose_token(logits, options, 0.999999), 2);  // one is not enough
}

TEST(TextStream, GivesOutWholeCharacters) {
  TextStream stream({});
  EXPECT_EQ(stream.next("a\xC3"), "a");
  EXPECT_EQ(stream.next("a\xC3\xA9"), "\xC3\xA9");
  EXPECT_EQ(stream.next("a\xC3\xA9\xE2\x82"), "");
  EXPECT_EQ(stream.finish("a\xC3\xA9\xE2\x82"), "\xEF\xBF\xBD");
}

TEST(TextStream, EndsBeforeAStopString) {
  TextStream stream({"\n\n", "END"});
  EXPECT_EQ(stream.next("one\n"), "one");  // may be the beginning of one
  EXPECT_EQ(stream.next("one\ntwo EN"), "\ntwo ");
  EXPECT_EQ(stream.next("one\ntwo ENx"), "ENx");
  EXPECT_FALSE(stream.stopped());
  EXPECT_EQ(stream.next("one\ntwo ENx more END and"), " more ");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.next("one\ntwo ENx more END and on"), "");
  EXPECT_EQ(stream.finish("one\ntwo ENx more END and on"), "");
}

TEST(GenerationOptions, AreChecked) {
  const auto refuses = [](auto&& change) {
    GenerationOptions options;
    change(options);
    EXPECT_THROW(check_options(options), ArgumentError);
  };
  check_options({});
  refuses([](auto& o) { o.tokens = 0; });
  refuses([](auto& o) { o.temperature = std::nan(""); });
  refuses([](auto& o) { o.temperature = -1; });
  refuses([](auto& o) { o.top_p = 0; });
  refuses([](auto& o) { o.top_p = 1.1; });
  refuses([](auto& o) { o.stop = {""}; });
  refuses([](auto& o) {
    o.temperature = 0;
    o.top_k = 3;
  });
}

}  // namespace
}  // namespace moekit::text
