#pragma once

#include "moekit/core/config.h"

namespace moekit::cli {

/// Says on stderr when a run's model has no checksums, as those of earlier versions.
void note_unchecked(const std::filesystem::path& run);

/// A run's or an evaluation's figures as lines of text on stdout.
void print_summary(const Json& summary);

/// Recipe keys as lines of text: path, default, meaning.
void print_keys(const std::vector<ConfigKey>& keys);
/// The same as a Markdown table, with what each kind is.
void print_keys_markdown(const std::vector<ConfigKey>& keys);

}  // namespace moekit::cli
