#include "moekit/kernels/common/routing_plan.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

using Index = std::vector<std::int64_t>;

TEST(RoutingPlan, TakesAssignmentsInTheOrderGivenAndKeepsTheRowsInTheLists) {
  // Four tokens, all to expert 0, which takes two.
  const Index expert(4, 0);
  const AssignmentList list{4, 2, 4, nullptr, expert.data(), nullptr};
  RoutingPlan plan;
  plan.build(list, 2);
  EXPECT_EQ(plan.assignment, (Index{0, 1}));
  const Index last_first{3, 1, 2, 0};
  plan.build(list, 2, last_first.data());
  EXPECT_EQ(plan.assignment, (Index{1, 3}));
  EXPECT_EQ(plan.dropped, (Index{2, 0}));
  EXPECT_EQ(plan.offsets, (Index{0, 2, 2}));
  plan.build(list, 0, last_first.data());
  EXPECT_EQ(plan.assignment, (Index{0, 1, 2, 3}));
  plan.build(list, 2);  // the memory of an order is no order
  EXPECT_EQ(plan.assignment, (Index{0, 1}));
}

TEST(RoutingPlan, EachExpertMayHaveACapacityOfItsOwn) {
  const Index expert{0, 1, 0, 1, 0, 1, 2};
  const AssignmentList list{7, 3, 7, nullptr, expert.data(), nullptr};
  RoutingPlan plan;
  plan.build(list, Index{1, 2, 5}, nullptr);
  EXPECT_EQ(plan.assignment, (Index{0, 1, 3, 6}));
  EXPECT_EQ(plan.dropped, (Index{2, 1, 0}));
  EXPECT_EQ(plan.offsets, (Index{0, 1, 3, 4}));
  const Index last_first{6, 5, 4, 3, 2, 1, 0};
  plan.build(list, Index{1, 2, 5}, last_first.data());
  EXPECT_EQ(plan.assignment, (Index{4, 3, 5, 6}));
  plan.build(list, Index{}, nullptr);
  EXPECT_EQ(plan.num_dropped(), 0);
  EXPECT_THROW(plan.build(list, Index{1, 2}, nullptr), ArgumentError);
  EXPECT_THROW(plan.build(list, Index{1, 0, 5}, nullptr), ArgumentError);
}

TEST(RoutingPlan, RefusesAnOrderThatIsNoPermutation) {
  const Index expert{0, 1, 0};
  const AssignmentList list{3, 2, 3, nullptr, expert.data(), nullptr};
  RoutingPlan plan;
  for (const Index& order : {Index{0, 1, 1}, Index{0, 1, 3}, Index{-1, 1, 2}}) {
    EXPECT_THROW(plan.build(list, 1, order.data()), ArgumentError);
  }
}

}  // namespace
}  // namespace moekit::kernels
