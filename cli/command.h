#pragma once

#include <CLI/CLI.hpp>

/// One function per subcommand: adds its flags to the program and the callback that runs it.
/// A callback throws `moekit::Error`, or sets the exit code it is given.
namespace moekit::cli {

void setup_train(CLI::App& app, int& exit_code);
void setup_eval(CLI::App& app, int& exit_code);
void setup_inspect(CLI::App& app, int& exit_code);
void setup_report(CLI::App& app, int& exit_code);
void setup_reproduce(CLI::App& app, int& exit_code);
void setup_data(CLI::App& app, int& exit_code);
void setup_bench(CLI::App& app, int& exit_code);
void setup_version(CLI::App& app, int& exit_code);

/// Exit code of a run that was interrupted and saved: 128 + SIGINT.
inline constexpr int kInterruptedExit = 130;

}  // namespace moekit::cli
