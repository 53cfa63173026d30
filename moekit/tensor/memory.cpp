#include "moekit/tensor/memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string_view>

#include "moekit/core/memory.h"

namespace moekit::tensor {
namespace {

/// Smaller tensors are not looked at: asking the system takes a tenth of a millisecond, filling
/// this many bytes a hundred times as long.
constexpr size_t kLarge = size_t{64} << 20;
/// Of what is free, this share may be taken; the rest is for what is smaller.
constexpr double kShare = 0.9;

class OutOfMemory : public std::bad_alloc {};

/// libtorch's own allocator, which looks at the free memory first while a MemoryLimit lives. Lives
/// as long as the program: tensors keep a pointer to the allocator that they came from.
class LimitedAllocator : public c10::Allocator {
 public:
  explicit LimitedAllocator(c10::Allocator* inner) : inner_(inner) {}
  c10::DataPtr allocate(size_t bytes) const override {
    const bool look = bytes >= kLarge && limits.load(std::memory_order_relaxed) > 0;
    if (look && static_cast<double>(bytes) > kShare * static_cast<double>(available_memory())) {
      throw OutOfMemory();
    }
    return inner_->allocate(bytes);
  }
  c10::DeleterFnPtr raw_deleter() const override { return inner_->raw_deleter(); }

  std::atomic<int> limits{0};  ///< that live

 private:
  c10::Allocator* inner_;
};

LimitedAllocator& allocator() {
  static LimitedAllocator* const kAllocator = [] {
    auto* made = new LimitedAllocator(c10::GetCPUAllocator());  // never deleted, see above
    c10::SetCPUAllocator(made);
    return made;
  }();
  return *kAllocator;
}

/// Of options that say how long something goes on, or where randomness starts, nothing grows.
bool takes_no_memory(const std::string& key) {
  return key.find("seed") != std::string::npos || key.find("epoch") != std::string::npos ||
         key.find("steps") != std::string::npos;
}

void find_largest(const Json& value, const std::string& path, int64_t& largest,
                  std::string& found) {
  if (value.is_number_integer() && value.get<int64_t>() > largest) {
    largest = value.get<int64_t>();
    found = concat(path, " = ", largest);
  } else if (value.is_object()) {
    for (const auto& [key, inner] : value.items()) {
      if (takes_no_memory(key)) continue;
      find_largest(inner, path.empty() ? key : concat(path, ".", key), largest, found);
    }
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) {
      find_largest(value[i], concat(path, "[", i, "]"), largest, found);
    }
  }
}

}  // namespace

MemoryLimit::MemoryLimit() { ++allocator().limits; }
MemoryLimit::~MemoryLimit() { --allocator().limits; }

bool is_out_of_memory(const std::exception& error) {
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr ||
      dynamic_cast<const std::length_error*>(&error) != nullptr) {
    return true;
  }
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  if (torch == nullptr) return false;
  // libtorch has one type for all errors; these are its words for sizes, in 1.13 and 2.x.
  const std::string_view text = torch->what_without_backtrace();
  for (const char* words :
       {"allocate memory", "not enough memory", "integer multiplication overflow",
        "calculation overflowed", "negative dimension", "invalid size"}) {
    if (text.find(words) != std::string_view::npos) return true;
  }
  return false;
}

ArgumentError memory_error(const std::string& what, const Json& options, const std::string& path) {
  const std::string largest = largest_option(options, path);
  return ArgumentError(concat(what, " would take more memory than is free, ",
                              available_memory() >> 20, " MiB",
                              largest.empty() ? "" : "; the largest option is ", largest));
}

std::string largest_option(const Json& options, const std::string& path) {
  int64_t largest = 0;
  std::string found;
  find_largest(options, path, largest, found);
  return found;
}

}  // namespace moekit::tensor
