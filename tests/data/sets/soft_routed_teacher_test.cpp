#include "moekit/data/sets/soft_routed_teacher.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::data {
namespace {

TEST(SoftRoutedSet, LabelsAreTheTeachersSign) {
  SoftRoutedSetOptions options;
  options.num_train = 2000;
  options.num_test = 10;
  const auto set = make_soft_routed_set(options, 4);
  const SoftRouted teacher{set.directions.at("router"), set.directions.at("expert"), options.gate};
  const auto parts = teacher.parts(set.train.images.flatten(1));
  EXPECT_TRUE(torch::equal(set.train.labels, parts.sum(1).gt(0).to(torch::kLong)));
  EXPECT_TRUE(torch::equal(set.train.clusters, parts.abs().argmax(1)));
  EXPECT_NEAR(set.train.labels.to(torch::kFloat32).mean().item<double>(), 0.5, 0.05);
  options.pairs = 9;
  EXPECT_THROW(make_soft_routed_set(options, 4), ArgumentError);
}

}  // namespace
}  // namespace moekit::data
