#pragma once

#include <cstddef>
#include <memory>

#include "moekit/kernels/common/format_paths.h"
#include "moekit/kernels/common/slab.h"
#include "moekit/kernels/common/thread_pool.h"

namespace moekit::kernels {

/// Memory the kernels work in. Grows to the largest call seen and is then used again: a later call
/// of the same sizes allocates nothing.
class Workspace {
 public:
  Workspace();
  ~Workspace();
  Workspace(Workspace&&) noexcept;
  Workspace& operator=(Workspace&&) noexcept;
  /// Bytes held.
  std::size_t bytes() const;

  struct Buffers;  ///< of the expert kernels
  Buffers& buffers() { return *buffers_; }
  Slab& slab() { return slab_; }  ///< of all others

 private:
  std::unique_ptr<Buffers> buffers_;
  Slab slab_;
};

/// What a call runs on. One call at a time for each workspace and pool.
struct Execution {
  ThreadPool* pool;
  Workspace* workspace;
  FormatPaths paths = default_paths();
  /// Refuse tokens and gradients that are NaN or infinite: once a call, before the work.
  bool check_finite = true;
};

}  // namespace moekit::kernels
