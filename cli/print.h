#pragma once

#include "moekit/core/config.h"

namespace moekit::cli {

/// A run's or an evaluation's figures as lines of text on stdout.
void print_summary(const Json& summary);

}  // namespace moekit::cli
