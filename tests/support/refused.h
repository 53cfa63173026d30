#pragma once

#include <string>
#include <utility>

#include "moekit/core/error.h"

namespace moekit {

/// What the error of ours says that a call ends with; "nothing was thrown" where it ends well.
template <typename Call>
std::string refused(Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace moekit
