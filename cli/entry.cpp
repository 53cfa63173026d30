#include <string>

#include "cli/command.h"
#include "cli/guard.h"
#include "moekit/core/version.h"
#include "moekit/data/folders.h"
#include "moekit/tensor/arithmetic.h"

namespace moekit::cli {
namespace {

/// A data folder has to be there, except for `data fetch`, which makes it.
template <typename Flags>
void check_data(const Flags& flags) {
  if constexpr (requires { flags.action; }) {
    if (flags.action == DataAction::kFetch) return;
  }
  if constexpr (requires { flags.data; }) data::check_data_flag(flags.data);
}

}  // namespace
}  // namespace moekit::cli

int moekit_run_command(const moekit::cli::Command* command) {
  moekit::tensor::flush_denormals();  // a model is judged as it was trained
  return moekit::cli::guarded([&] {
    return std::visit(
        [](const auto& flags) {
          moekit::cli::check_data(flags);
          return moekit::cli::run(flags);
        },
        *command);
  });
}

const char* moekit_commands_version() { return moekit::version().data(); }  // a literal
