#include "moekit/core/words.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdio>

namespace moekit {
namespace {

TEST(NearestWord, FindsTheWordWithASwappedMissingOrWrongLetter) {
  const std::vector<std::string> known{"train", "eval", "inspect", "report", "reproduce", "lr"};
  EXPECT_EQ(nearest_word("trian", known), "train");
  EXPECT_EQ(nearest_word("evl", known), "eval");
  EXPECT_EQ(nearest_word("inpsetc", known), "inspect");
  EXPECT_EQ(nearest_word("reprot", known), "report");
  EXPECT_EQ(nearest_word("reprduce", known), "reproduce");
  EXPECT_EQ(nearest_word("lrr", known), "lr");
  EXPECT_EQ(did_you_mean("trian", known), "; did you mean train?");
}

TEST(NearestWord, OffersNothingFar) {
  // Three letters of four differ: within the three errors of a long word, and yet another word.
  EXPECT_EQ(nearest_word("size", {"kind", "side_length"}), "");
  EXPECT_EQ(nearest_word("beta", {"lr", "seed", "meta_data"}), "");
  EXPECT_EQ(nearest_word("ab", {"cd", "ac"}), "");
  EXPECT_EQ(nearest_word("", {"a", "ab"}), "");
  EXPECT_EQ(nearest_word("intermediate_width", {"intermediate_size"}), "");  // four errors
  EXPECT_EQ(did_you_mean("size", {"kind"}), "");
}

/// What a shell makes of a word.
std::string echoed(const std::string& word) {
  FILE* pipe = ::popen(("printf %s " + word).c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::string text;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) text += static_cast<char>(c);
  ::pclose(pipe);
  return text;
}

TEST(ShellQuoted, GivesAShellTheTextBack) {
  for (const std::string text : {"runs/a-seed1", "my runs/a", "it's", "$HOME", "a;b", "*", "~",
                                 "a\nb", "`date`", "\"x\"", "a\\b", "", "é", "a&b", "#1", "!x"}) {
    EXPECT_EQ(echoed(shell_quoted(text)), text);
  }
  EXPECT_EQ(shell_quoted("runs/a-seed1"), "runs/a-seed1");
  EXPECT_EQ(shell_quoted("my runs"), "'my runs'");
}

}  // namespace
}  // namespace moekit
