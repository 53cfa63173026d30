#pragma once

#include <memory>
#include <mutex>

#include "moekit/kernels/ffn/expert_ffn.h"

namespace moekit::nn {

/// Threads and working memory of the expert kernels. Layers that share one take turns; whoever
/// wants calls side by side, or another number of threads, gives a layer one of its own
/// (`MoEOptions::runtime`).
class Runtime {
 public:
  /// @param threads  0: as many as libtorch uses, looked up at every call
  /// @throws ArgumentError when it is negative.
  explicit Runtime(int threads = 0);

  /// The one that layers use unless they are given another.
  static const std::shared_ptr<Runtime>& standard();

  /// Calls `call(execution)`, one caller at a time. NaN goes through, as in libtorch's operations:
  /// the trainer looks.
  template <typename Call>
  void run(const Call& call) {
    const std::lock_guard lock(mutex_);
    call(prepare());
  }

 private:
  kernels::Execution prepare();

  int threads_;
  std::mutex mutex_;
  std::unique_ptr<kernels::ThreadPool> pool_;
  kernels::Workspace workspace_;
};

}  // namespace moekit::nn
