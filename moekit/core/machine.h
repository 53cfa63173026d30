#pragma once

#include <string>

namespace moekit {

/// The processor's name as the system tells it, "unknown processor" where it does not.
std::string processor_name();

}  // namespace moekit
