#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace moekit::kernels {

/// Threads that claim numbered pieces of work from one counter. A waiting thread spins for about
/// 20 microseconds, then sleeps, so that a busy neighbour on the machine costs a piece of work
/// and not a time slice per phase; pieces of 100 to 300 microseconds are right. The caller works
/// too, and does everything itself when no other thread gets a processor.
class ThreadPool {
 public:
  /// @param threads  >= 1, the caller's included. @throws ArgumentError otherwise.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls work(piece, thread) once for every piece 0 .. pieces-1; thread is 0 .. num_threads()-1
  /// and no two pieces run on one thread at once. Returns when all are done; what they wrote is
  /// then visible. Work must not throw, nor call run(). One caller at a time.
  template <typename Work>
  void run(std::int64_t pieces, const Work& work) {
    run_erased(
        pieces,
        [](const void* context, std::int64_t piece, int thread) {
          (*static_cast<const Work*>(context))(piece, thread);
        },
        &work);
  }

  /// Half of what the ticket's 24 bits count: late claims, one a thread, go beyond the last piece
  /// and must not carry into the next field.
  static constexpr std::int64_t kMaxPieces = std::int64_t{1} << 23;

 private:
  using Call = void (*)(const void* context, std::int64_t piece, int thread);
  void run_erased(std::int64_t pieces, Call call, const void* context);
  bool claim_and_run(int thread);
  void serve(int thread);

  // Round (16 bits), pieces of the round (24), next piece (24): a claim reads all three at once,
  // so a thread that comes late can never take a piece of another round for one of its own.
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<std::uint32_t> done_{0};
  alignas(64) std::atomic<std::uint32_t> round_{0};
  std::atomic<bool> stop_{false};
  Call call_ = nullptr;
  const void* context_ = nullptr;
  std::vector<std::thread> workers_;
};

}  // namespace moekit::kernels
