#pragma once

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/support/refusal.h"

namespace moekit {

/// What refusal() gives for a call that is taken.
inline const std::string kTaken = "nothing was thrown";

/// What calls said, and what they should have said.
using Said = std::vector<std::pair<std::string, std::string>>;

inline void expect_said(const Said& said) {
  for (const auto& [got, want] : said) EXPECT_EQ(got, want);
}

}  // namespace moekit
