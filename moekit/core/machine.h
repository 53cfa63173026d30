#pragma once

#include <string>

namespace moekit {

/// The processor's name as the system tells it, "unknown processor" where it does not.
std::string processor_name();

/// What tells this processor from others, on one line: vendor, family, model and stepping, or what
/// the system has in their place, and the name. Empty where the system does not tell.
std::string processor_identity();

}  // namespace moekit
