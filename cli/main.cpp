#include <csignal>
#include <cstdio>
#include <exception>
#include <string>

#include "cli/command.h"
#include "moekit/core/error.h"

namespace {

constexpr int kFailed = 1;   // the work could not be done
constexpr int kMisused = 2;  // the command line or a recipe is wrong

int fail(const char* what, int code) {
  std::fprintf(stderr, "moekit: %s\n", what);
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("moekit: train, measure and compare mixtures of experts", "moekit");
  app.require_subcommand(1);
  app.fallthrough(false);
  // A limit on file sizes shall be an error with a message, like a full disk, not a death.
  std::signal(SIGXFSZ, SIG_IGN);
  int exit_code = 0;
  moekit::cli::setup_train(app, exit_code);
  moekit::cli::setup_eval(app, exit_code);
  moekit::cli::setup_inspect(app, exit_code);
  moekit::cli::setup_report(app, exit_code);
  moekit::cli::setup_reproduce(app, exit_code);
  moekit::cli::setup_data(app, exit_code);
  moekit::cli::setup_bench(app, exit_code);
  moekit::cli::setup_version(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    app.exit(error);
    return kMisused;
  } catch (const moekit::ArgumentError& error) {
    return fail(error.what(), kMisused);
  } catch (const moekit::FormatError& error) {
    return fail(error.what(), kFailed);
  } catch (const std::exception& error) {
    // Of an error that is not ours the first line: libtorch appends its stack.
    const std::string what = error.what();
    return fail(what.substr(0, what.find('\n')).c_str(), kFailed);
  }
  return exit_code;
}
