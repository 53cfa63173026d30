#include "moekit/core/memory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <limits>

namespace moekit {
namespace {

constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();

/// The number that follows a key in a file, or the first one; `otherwise` where there is none
/// ("max" in memory.max, or no such file).
std::uint64_t read_number(const std::string& path, std::string_view key, std::uint64_t otherwise) {
  std::ifstream in(path);
  for (std::string word; !key.empty() && word != key;) {
    if (!(in >> word)) return otherwise;
  }
  std::uint64_t value = 0;
  return in >> value ? value : otherwise;
}

/// "MemAvailable:   21843120 kB" in a file, as bytes.
std::uint64_t kibibytes_of(const char* file, std::string_view key) {
  const std::uint64_t kib = read_number(file, key, kUnknown);
  return kib == kUnknown ? kUnknown : kib << 10;
}

/// What the control group leaves, as a container sees it.
std::uint64_t group_available() {
  const std::string group = "/sys/fs/cgroup/";
  const std::uint64_t most = read_number(group + "memory.max", "", kUnknown);
  if (most == kUnknown) return kUnknown;
  // What files are cached in counts as used, but goes when memory is wanted.
  const std::string stat = group + "memory.stat";
  const std::uint64_t cached = read_number(stat, "file", 0) - read_number(stat, "shmem", 0);
  const std::uint64_t current = read_number(group + "memory.current", "", 0);
  const std::uint64_t used = current - std::min(current, cached);  // files are read one by one
  return most - std::min(most, used);
}

}  // namespace

std::uint64_t available_memory() {
  const std::uint64_t available =
      std::min(kibibytes_of("/proc/meminfo", "MemAvailable:"), group_available());
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return available;
  const std::uint64_t taken = kibibytes_of("/proc/self/status", "VmSize:");
  if (taken == kUnknown) return available;
  return std::min<std::uint64_t>(available,
                                 limit.rlim_cur - std::min<std::uint64_t>(taken, limit.rlim_cur));
}

std::string memory_shortage(const std::vector<std::int64_t>& sizes, std::uint64_t bytes_each) {
  // A double cannot overflow here, and rounds by far less than the figures are uncertain.
  auto bytes = static_cast<double>(bytes_each);
  for (const auto size : sizes) bytes *= static_cast<double>(size);
  const auto available = static_cast<double>(available_memory());
  if (bytes <= available) return {};
  return fmt::format("[{}] of {} byte(s) take {:.3g} GB; {:.3g} GB of memory are free",
                     fmt::join(sizes, ", "), bytes_each, bytes / 1e9, available / 1e9);
}

}  // namespace moekit
