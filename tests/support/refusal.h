#pragma once

#include <string>
#include <utility>

#include "moekit/core/error.h"

namespace moekit {

/// what() of the moekit::Error that `call` throws; "nothing was thrown" otherwise.
template <typename Call>
std::string refusal(Call&& call) {
  try {
    std::forward<Call>(call)();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

}  // namespace moekit
