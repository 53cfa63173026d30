#include "cli/command.h"
#include "moekit/models/model_trace.h"

namespace moekit::cli {

int run(const TraceFlags& flags) {
  models::write_model_trace(flags.model, flags.ids, flags.output);
  return 0;
}

}  // namespace moekit::cli
