#include "moekit/data/sets/joined.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::data {
namespace {

TEST(JoinDatasets, AlternatesRenumbersAndKeepsThePart) {
  const auto part = [](const char* name, int64_t offset) {
    ImageDataset set;
    set.name = name;
    const auto labels = torch::tensor({0, 1, 2, 1, 0});
    set.train = {(labels + offset).to(torch::kUInt8).reshape({5, 1, 1, 1}), labels, {}};
    set.test = set.train;
    set.class_names = {"zero", "one", "two"};
    return set;
  };
  const auto joined = join_datasets(part("a", 10), {1}, part("b", 20), {2, 0});
  EXPECT_EQ(joined.class_names, (std::vector<std::string>{"one", "two", "zero"}));
  // a's images of class 1 twice, b's of classes 0, 2 (of 0, 2, 0: cut to the shorter part).
  EXPECT_TRUE(torch::equal(joined.train.images.flatten(),
                           torch::tensor({11, 20, 11, 22}).to(torch::kUInt8)));
  EXPECT_TRUE(torch::equal(joined.train.labels, torch::tensor({0, 2, 0, 1})));
  EXPECT_TRUE(torch::equal(joined.train.clusters, torch::tensor({0, 1, 0, 1})));
  EXPECT_THROW(join_datasets(part("a", 0), {3}, part("b", 0), {0}), ArgumentError);
}

}  // namespace
}  // namespace moekit::data
