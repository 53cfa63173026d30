#include "moekit/kernels/common/thread_pool.h"

#include <chrono>

#include "moekit/core/error.h"

namespace moekit::kernels {
namespace {

// Then asleep: a thread that spins holds a processor that one with work may be waiting for. About a
// piece of work: at 2 us a step of one token slept and woke between its rounds, which took a 20th
// to a 10th of it (two processors), and twice as long where two other processes ran; 100 us were no
// faster.
constexpr auto kSpin = std::chrono::microseconds(20);
constexpr std::uint64_t kPieceMask = (std::uint64_t{1} << 24) - 1;  // a field of the ticket

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

/// Until `word` is no longer `old`: spins, then sleeps (std::atomic waits on a futex).
void wait_for_change(const std::atomic<std::uint32_t>& word, std::uint32_t old) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  while (word.load(std::memory_order_acquire) == old) {
    if (std::chrono::steady_clock::now() > end) {
      word.wait(old, std::memory_order_acquire);
      return;
    }
    pause();
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  MOEKIT_CHECK(threads >= 1 && threads <= 1024, "ThreadPool: threads must be 1..1024; got ",
               threads);
  workers_.reserve(static_cast<std::size_t>(threads - 1));
  for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { serve(t); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (auto& worker : workers_) worker.join();
}

bool ThreadPool::claim_and_run(int thread) {
  const std::uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
  const std::uint64_t piece = ticket & kPieceMask;
  const std::uint64_t pieces = (ticket >> 24) & kPieceMask;
  if (piece >= pieces) return false;
  call_(context_, static_cast<std::int64_t>(piece), thread);
  if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == pieces && thread != 0) {
    done_.notify_one();
  }
  return true;
}

void ThreadPool::serve(int thread) {
  std::uint32_t seen = 0;
  while (true) {
    wait_for_change(round_, seen);
    seen = round_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    while (claim_and_run(thread)) {
    }
  }
}

void ThreadPool::run_erased(std::int64_t pieces, Call call, const void* context) {
  MOEKIT_CHECK(pieces >= 0 && pieces <= kMaxPieces, "ThreadPool: pieces must be 0..", kMaxPieces,
               "; got ", pieces);
  if (workers_.empty() || pieces <= 1) {
    for (std::int64_t p = 0; p < pieces; ++p) call(context, p, 0);
    return;
  }
  call_ = call;
  context_ = context;
  done_.store(0, std::memory_order_relaxed);
  const auto count = static_cast<std::uint64_t>(pieces);
  const std::uint64_t round = round_.load(std::memory_order_relaxed) + 1;
  ticket_.store((round & 0xffff) << 48 | count << 24, std::memory_order_release);
  round_.store(static_cast<std::uint32_t>(round), std::memory_order_release);
  round_.notify_all();
  while (claim_and_run(0)) {
  }
  const auto all = static_cast<std::uint32_t>(pieces);
  for (auto done = done_.load(std::memory_order_acquire); done != all;
       done = done_.load(std::memory_order_acquire)) {
    wait_for_change(done_, done);
  }
}

}  // namespace moekit::kernels
