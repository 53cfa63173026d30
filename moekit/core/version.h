#pragma once

#include <string_view>

namespace moekit {

/// "0.2.0", as in CMakeLists.txt.
std::string_view version();

}  // namespace moekit
