#include <fmt/format.h>
#include <torch/version.h>

#include "cli/command.h"
#include "moekit/core/version.h"

namespace moekit::cli {

void setup_version(CLI::App& app, int& /*exit_code*/) {
  auto* command = app.add_subcommand("version", "Print the versions of moekit and libtorch");
  command->callback([] { fmt::print("moekit {} (libtorch {})\n", version(), TORCH_VERSION); });
}

}  // namespace moekit::cli
