#pragma once

#include <string>

#include "moekit/core/error.h"

namespace moekit {

/// What the moekit::Error says that `call` throws; "nothing was thrown" otherwise.
template <typename Call>
std::string refusal(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace moekit
