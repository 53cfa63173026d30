#include "moekit/core/machine.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string_view>

namespace moekit {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const auto at = line.find_first_not_of(" \t", line.find(':') + 1);
    if (at != std::string::npos) return line.substr(at);
  }
  return "unknown processor";
}

std::string processor_identity() {
  // Of Linux on x86-64 and on ARM.
  constexpr std::array<std::string_view, 9> kKeys{"vendor_id",  "cpu family",  "model",
                                                  "model name", "stepping",    "CPU implementer",
                                                  "CPU part",   "CPU variant", "CPU revision"};
  std::ifstream file("/proc/cpuinfo");
  std::string identity;
  // The first processor's lines: an empty one ends them.
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const std::string key = line.substr(0, line.find_first_of("\t:"));
    const auto at = line.find_first_not_of(" \t", line.find(':') + 1);
    if (at == std::string::npos) continue;
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end()) continue;
    identity += (identity.empty() ? "" : ", ") + key + " " + line.substr(at);
  }
  return identity;
}

}  // namespace moekit
