#pragma once

#include "cli/flags.h"

namespace moekit::cli {

/// Loads the library of commands, and libtorch with it, and does a command there.
/// @return the exit code; errors of the command itself are on stderr already
/// @throws IoError when the library is missing, cannot be loaded or is of another version.
int run_in_library(const Command& command);

/// Prints what the library says to `train --list-keys` out of the page that the build wrote beside
/// it, without loading it.
/// @return false where there is no such page or it is older than the library: nothing was printed
bool print_written_keys(bool markdown);

}  // namespace moekit::cli
