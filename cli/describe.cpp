#include <fmt/format.h>

#include "cli/command.h"
#include "moekit/published/description.h"

namespace moekit::cli {

int run(const DescribeFlags& flags) {
  const Json description = published::describe_model(flags.model);
  if (flags.json) {
    fmt::print("{}\n", dump_text(description, 2));
  } else {
    fmt::print("{}", published::description_text(description));
  }
  return 0;
}

}  // namespace moekit::cli
