#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace moekit {

/// Base of every error moekit throws itself. The library never prints, exits or aborts.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller's mistake: an impossible option, a tensor of the wrong shape, an unknown key.
class ArgumentError : public Error {
 public:
  using Error::Error;
};

/// A file breaks its format. The message names the path and what was expected.
class FormatError : public Error {
 public:
  using Error::Error;
};

/// The system refused: a file that cannot be opened, a disk that is full, a failed transfer.
class IoError : public Error {
 public:
  using Error::Error;
};

/// The numbers went wrong (NaN, infinity) where they must be finite.
class NumericError : public Error {
 public:
  using Error::Error;
};

/// Writes all arguments one after the other through `operator<<`.
template <typename... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Does `work`; an error of it that a user can mend begins with `what`, as the key it is about.
template <typename Work>
auto about(const std::string& what, const Work& work) {
  try {
    return work();
  } catch (const ArgumentError& error) {
    throw ArgumentError(concat(what, ": ", error.what()));
  } catch (const FormatError& error) {
    throw FormatError(concat(what, ": ", error.what()));
  } catch (const IoError& error) {
    throw IoError(concat(what, ": ", error.what()));
  }
}

}  // namespace moekit

/// Throws `ArgumentError` with the concatenated message unless `condition` holds.
#define MOEKIT_CHECK(condition, ...)                                \
  do {                                                              \
    if (!(condition)) {                                             \
      throw ::moekit::ArgumentError(::moekit::concat(__VA_ARGS__)); \
    }                                                               \
  } while (false)

/// As `MOEKIT_CHECK`, for a file that breaks its format.
#define MOEKIT_CHECK_FORMAT(condition, ...)                       \
  do {                                                            \
    if (!(condition)) {                                           \
      throw ::moekit::FormatError(::moekit::concat(__VA_ARGS__)); \
    }                                                             \
  } while (false)
