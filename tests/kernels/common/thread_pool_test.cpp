#include "moekit/kernels/common/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/common/routing_plan.h"
#include "moekit/kernels/common/slab.h"

namespace moekit::kernels {
namespace {

TEST(ThreadPool, RunsEveryPieceOnceAndWaitsForAll) {
  for (const int threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    // Many short rounds of different sizes: a late thread must never take a piece of another round.
    for (int round = 0; round < 2000; ++round) {
      const int pieces = round % 37;
      std::vector<std::atomic<int>> counts(static_cast<std::size_t>(pieces));
      std::atomic<bool> thread_in_range{true};
      pool.run(pieces, [&](std::int64_t piece, int thread) {
        counts[static_cast<std::size_t>(piece)].fetch_add(1, std::memory_order_relaxed);
        if (thread < 0 || thread >= threads) thread_in_range = false;
      });
      for (const auto& count : counts) ASSERT_EQ(count.load(), 1) << threads << " " << round;
      ASSERT_TRUE(thread_in_range);
    }
  }
}

TEST(ThreadPool, MakesWhatPiecesWroteVisible) {
  ThreadPool pool(3);
  std::vector<std::int64_t> values(1000);
  for (std::int64_t round = 1; round < 50; ++round) {
    pool.run(1000, [&](std::int64_t piece, int) {
      values[static_cast<std::size_t>(piece)] = piece * round;
    });
    for (std::int64_t i = 0; i < 1000; ++i) {
      ASSERT_EQ(values[static_cast<std::size_t>(i)], i * round);
    }
  }
}

TEST(ThreadPool, RefusesWithTheValue) {
  EXPECT_THROW(ThreadPool(0), ArgumentError);
  ThreadPool pool(1);
  EXPECT_THROW(pool.run(-1, [](std::int64_t, int) {}), ArgumentError);
  EXPECT_THROW(pool.run(ThreadPool::kMaxPieces + 1, [](std::int64_t, int) {}), ArgumentError);
}

TEST(Slab, IsZeroedAlignedAndGrows) {
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{100}, std::size_t{3} << 20}) {
    const Slab slab(bytes);
    const auto address = reinterpret_cast<std::uintptr_t>(slab.data());
    EXPECT_EQ(address % (bytes >= (std::size_t{2} << 20) ? std::size_t{2} << 20 : 64), 0U);
    for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(slab.data()[i], std::byte{0});
  }
  Slab slab(10);
  auto* before = slab.data();
  slab.reserve(5);
  EXPECT_EQ(slab.data(), before);
  slab.reserve(100);
  EXPECT_EQ(slab.size(), 100U);
  Slab moved = std::move(slab);
  EXPECT_EQ(moved.size(), 100U);
}

TEST(RoutingPlan, SortsAssignmentsByExpertAndKeepsTheOrderOfTokens) {
  // Token 0 to experts 2 and 0, token 1 to 0 and 1, token 2 to 2 and 1.
  const std::vector<std::int64_t> index{2, 0, 0, 1, 2, 1};
  const std::vector<float> weights{0.5F, 0.5F, 0.25F, 0.75F, 1, 0};
  RoutingPlan plan;
  plan.build(3, 4, 2, index.data(), weights.data(), true);
  EXPECT_EQ(plan.offsets, (std::vector<std::int64_t>{0, 2, 4, 6, 6}));
  EXPECT_EQ(plan.token, (std::vector<std::int32_t>{0, 1, 1, 2, 0, 2}));
  EXPECT_EQ(plan.assignment, (std::vector<std::int64_t>{1, 2, 3, 5, 0, 4}));
  EXPECT_EQ(plan.weight, (std::vector<float>{0.5F, 0.25F, 0.75F, 0, 0.5F, 1}));
  EXPECT_EQ(plan.active, (std::vector<std::int32_t>{0, 1, 2}));
  plan.build_shared(2, 3);
  EXPECT_EQ(plan.token, (std::vector<std::int32_t>{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(plan.offsets, (std::vector<std::int64_t>{0, 2, 4, 6}));
  EXPECT_EQ(plan.assignment, (std::vector<std::int64_t>{0, 3, 1, 4, 2, 5}));
}

TEST(Isa, ListsTheReferenceLastAndCanBeForced) {
  const auto isas = supported_isas();
  EXPECT_EQ(isas.back(), Isa::kReference);
  for (const auto isa : isas) EXPECT_EQ(parse_isa(isa_name(isa)), isa);
  ::setenv("MOEKIT_ISA", "reference", 1);
  EXPECT_EQ(default_isa(), Isa::kReference);
  ::setenv("MOEKIT_ISA", "mmx", 1);
  EXPECT_THROW(default_isa(), ArgumentError);
  ::unsetenv("MOEKIT_ISA");
  EXPECT_EQ(forced_isa(), std::nullopt);
  EXPECT_EQ(default_isa(), known_choice().paths.f32);
}

}  // namespace
}  // namespace moekit::kernels
