#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moekit {

/// Bytes that this process may still take: what the kernel calls available, within the limit on the
/// process's address space and of its control group. The largest number where nothing is known.
std::uint64_t available_memory();

/// Whether an array of these sizes fits into the memory that is free: empty when it does, else
/// "[1000000, 4, 500000] of 4 byte(s) take 8e+03 GB; 7.5 GB of memory are free". To be asked
/// before memory is taken, since the system gives it first and ends the process later.
/// @param sizes  none negative
std::string memory_shortage(const std::vector<std::int64_t>& sizes, std::uint64_t bytes_each);

}  // namespace moekit
