#include "moekit/kernels/common/slab.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace moekit::kernels {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;  // of x86-64
constexpr std::size_t kLine = 64;                        // of the caches, and an AVX-512 vector

}  // namespace

Slab::Slab(std::size_t bytes) {
  if (bytes == 0) return;
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kLine;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  data_ = static_cast<std::byte*>(std::aligned_alloc(alignment, rounded));
  if (data_ == nullptr) throw std::bad_alloc();
  size_ = bytes;
#ifdef MADV_HUGEPAGE
  if (alignment == kHugePage) madvise(data_, rounded, MADV_HUGEPAGE);  // advice: may be refused
#endif
  std::memset(data_, 0, rounded);
}

Slab::~Slab() { std::free(data_); }

Slab::Slab(Slab&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Slab& Slab::operator=(Slab&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void Slab::reserve(std::size_t bytes) {
  if (bytes > size_) *this = Slab(bytes);
}

}  // namespace moekit::kernels
