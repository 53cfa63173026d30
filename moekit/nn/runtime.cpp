#include "moekit/nn/runtime.h"

#include <ATen/Parallel.h>

#include "moekit/core/error.h"

namespace moekit::nn {

Runtime::Runtime(int threads) : threads_(threads) {
  MOEKIT_CHECK(threads >= 0, "Runtime: threads must be at least 0; got ", threads);
}

const std::shared_ptr<Runtime>& Runtime::standard() {
  static const auto kInstance = std::make_shared<Runtime>();
  return kInstance;
}

kernels::Execution Runtime::prepare() {
  // Inside a parallel region of libtorch the other processors are taken.
  const int of_torch = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int threads = threads_ > 0 ? threads_ : of_torch;
  if (!pool_ || pool_->num_threads() != threads) {
    pool_ = std::make_unique<kernels::ThreadPool>(threads);
  }
  kernels::Execution execution{pool_.get(), &workspace_};
  execution.check_finite = false;
  return execution;
}

}  // namespace moekit::nn
