#pragma once

#include <cstdint>
#include <exception>
#include <string>

#include "moekit/core/config.h"
#include "moekit/core/memory.h"

namespace moekit::tensor {

/// While one lives, libtorch refuses a tensor on the CPU that is larger than the memory that is
/// free by then, before the memory is touched: Linux hands out more than there is, and ends
/// processes when it is used.
class MemoryLimit {
 public:
  MemoryLimit();
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;
  ~MemoryLimit();
};

/// Whether an error says that memory was too small or a size beyond all bounds.
bool is_out_of_memory(const std::exception& error);

/// "model.num_experts = 1000000000": the largest whole number among options, seeds, epochs and
/// steps left out; or nothing.
/// @param path  of the options in their recipe
std::string largest_option(const Json& options, const std::string& path);

/// What is thrown where memory is too small: it names the largest option.
/// @param what  was to be made; @param options, path  what decides how large it is
ArgumentError memory_error(const std::string& what, const Json& options, const std::string& path);

/// What `make()` gives, under a MemoryLimit.
/// @param what  is made; @param options, path  what decides how large it is
/// @throws ArgumentError naming the largest option instead of whatever says that memory was too
///         small
template <typename Make>
auto within_memory(const std::string& what, const Json& options, const std::string& path,
                   Make&& make) {
  const MemoryLimit limit;
  try {
    return make();
  } catch (const std::exception& error) {
    if (!is_out_of_memory(error)) throw;
    throw memory_error(what, options, path);
  }
}

}  // namespace moekit::tensor
