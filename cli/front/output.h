#pragma once

namespace moekit::cli {

/// Makes sure that standard input, output and error are open, so that no file of ours takes their
/// numbers and what is printed lands in it. Writing to a standard output that was closed fails.
void open_standard_files();

/// Writes out what was printed. @return `code`, or that of a failure where this was impossible
int finish_output(int code);

}  // namespace moekit::cli
