#include <csignal>
#include <string>
#include <vector>

#include "cli/front/command_line.h"
#include "cli/front/completion.h"
#include "cli/front/output.h"
#include "cli/guard.h"

int main(int argc, char** argv) {
  using namespace moekit::cli;
  open_standard_files();
  // A limit on file sizes shall be an error with a message, like a full disk, not a death.
  std::signal(SIGXFSZ, SIG_IGN);
  std::vector<std::string> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  return finish_output(guarded([&] {
    CommandLine line;
    if (!words.empty() && words.front() == kCompleteWord) {
      words.erase(words.begin());
      print_candidates(complete(line, std::move(words)));
      return 0;
    }
    return line.run(std::move(words));
  }));
}
