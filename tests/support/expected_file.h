#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "moekit/core/files.h"

namespace moekit {

/// Holds a text against the file of that name below tests/, whole. With MOEKIT_WRITE_GOLDEN=1 the
/// file is written anew, to be read before it is committed.
inline void expect_file(const std::string& name, const std::string& text) {
  const auto file = std::filesystem::path(MOEKIT_TEST_SOURCES) / name;
  if (std::getenv("MOEKIT_WRITE_GOLDEN") != nullptr) write_file_atomic(file, text);
  EXPECT_EQ(text, read_file(file)) << file;
}

}  // namespace moekit
