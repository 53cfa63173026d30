#pragma once

#include <string>

#include "cli/front/command_line.h"

namespace moekit::cli {

/// A page of the manual in the roff language (man macros). @param command  whose; empty: moekit(1)
std::string manual_page(const CommandLine& line, const std::string& command);

}  // namespace moekit::cli
