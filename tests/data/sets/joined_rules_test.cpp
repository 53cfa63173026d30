#include <gtest/gtest.h>

#include "moekit/data/sets/joined.h"
#include "tests/support/refusal.h"

namespace moekit::data {
namespace {

/// Images of two channels, 2 x 3, all of whose pixels tell which they are.
ImageSet told_apart(const std::vector<int64_t>& labels, int64_t first) {
  const auto count = static_cast<int64_t>(labels.size());
  return {torch::arange(first, first + count)
              .to(torch::kUInt8)
              .view({count, 1, 1, 1})
              .repeat({1, 2, 2, 3}),
          torch::tensor(labels, torch::kLong),
          {}};
}

ImageDataset set_of(const char* name, std::vector<std::string> classes, ImageSet train,
                    ImageSet test) {
  ImageDataset set;
  set.name = name;
  set.source = std::string("folder of ") + name;
  set.class_names = std::move(classes);
  set.train = std::move(train);
  set.test = std::move(test);
  return set;
}

TEST(JoinedSets, HoldThePickedClassesOfBothPartsInTurn) {
  const auto a = set_of("a", {"zero", "one", "two"}, told_apart({2, 0, 1, 2, 0}, 10),
                        told_apart({0, 2, 1}, 20));
  const auto b = set_of("b", {"p", "q", "r", "s"}, told_apart({3, 1, 3, 0, 1, 3}, 30),
                        told_apart({2, 3, 1, 0}, 40));
  const auto joined = join_datasets(a, {2, 0}, b, {3, 1});
  EXPECT_EQ(joined.name, "a+b");
  EXPECT_EQ(joined.source, "folder of a and folder of b");
  EXPECT_EQ(joined.class_names, (std::vector<std::string>{"two", "zero", "s", "q"}));
  EXPECT_EQ(joined.normalization.mean, (std::vector<double>{0.5, 0.5}));
  EXPECT_EQ(joined.normalization.std_dev, (std::vector<double>{0.5, 0.5}));
  // Of a 10, 11, 13, 14; of b 30, 31, 32, 34, 35, cut to four.
  EXPECT_EQ(joined.train.images.sizes().vec(), (std::vector<int64_t>{8, 2, 2, 3}));
  for (const int64_t column : {0, 2}) {
    EXPECT_TRUE(torch::equal(joined.train.images.select(3, column).select(2, 1).select(1, 1),
                             torch::tensor({10, 30, 11, 31, 13, 32, 14, 34}).to(torch::kUInt8)));
  }
  EXPECT_TRUE(torch::equal(joined.train.labels, torch::tensor({0, 2, 1, 3, 0, 2, 1, 3})));
  EXPECT_TRUE(torch::equal(joined.train.clusters, torch::tensor({0, 1, 0, 1, 0, 1, 0, 1})));
  // Of a 20, 21; of b 41, 42.
  EXPECT_TRUE(torch::equal(joined.test.images.select(3, 0).select(2, 0).select(1, 0),
                           torch::tensor({20, 41, 21, 42}).to(torch::kUInt8)));
  EXPECT_TRUE(torch::equal(joined.test.labels, torch::tensor({1, 2, 0, 3})));
  EXPECT_TRUE(torch::equal(joined.test.clusters, torch::tensor({0, 1, 0, 1})));
}

TEST(JoinedSets, RefuseClassesThatAreNotThereAndImagesOfTwoShapes) {
  const auto a = set_of("a", {"zero", "one", "two"}, told_apart({0}, 1), told_apart({0}, 1));
  auto b = a;
  b.name = "b";
  EXPECT_EQ(moekit::refusal([&] { join_datasets(a, {3}, b, {0}); }),
            "join_datasets: class 3; there are 3");
  EXPECT_EQ(moekit::refusal([&] { join_datasets(a, {0}, b, {-1}); }),
            "join_datasets: class -1; there are 3");
  b.train.images = torch::zeros({1, 2, 3, 3}, torch::kUInt8);
  EXPECT_EQ(moekit::refusal([&] { join_datasets(a, {0}, b, {0}); }),
            "join_datasets: a has images [2, 2, 3], b [2, 3, 3]");
}

}  // namespace
}  // namespace moekit::data
