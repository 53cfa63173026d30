#pragma once

#include <functional>

namespace moekit::cli {

inline constexpr int kFailed = 1;             ///< the work could not be done
inline constexpr int kMisused = 2;            ///< the command line or a recipe is wrong
inline constexpr int kInterruptedExit = 130;  ///< interrupted and saved: 128 + SIGINT

/// Runs `work` and returns its exit code; an exception becomes a line on stderr and a code.
int guarded(const std::function<int()>& work);

}  // namespace moekit::cli
