#include <string>

#include "cli/command.h"
#include "cli/guard.h"
#include "moekit/core/version.h"

int moekit_run_command(const moekit::cli::Command* command) {
  return moekit::cli::guarded([&] {
    return std::visit([](const auto& flags) { return moekit::cli::run(flags); }, *command);
  });
}

const char* moekit_commands_version() { return moekit::version().data(); }  // a literal
