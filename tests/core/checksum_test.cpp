#include "moekit/core/checksum.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit {
namespace {
namespace fs = std::filesystem;

TEST(Sha256, MatchesThePublishedTestVectors) {
  // FIPS 180-2, appendix B; the empty message of NIST's short messages.
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, OfAFileIsThatOfItsBytesBeyondOnePiece) {
  const fs::path file = fs::temp_directory_path() / concat("moekit-sum-", ::getpid());
  const std::string bytes = std::string((1 << 20) + 3, 'x') + "end";
  write_file_atomic(file, bytes);
  EXPECT_EQ(sha256_file(file), sha256(bytes));
  write_file_atomic(file, "");
  EXPECT_EQ(sha256_file(file), sha256(""));
  fs::remove(file);
  EXPECT_THROW(sha256_file(file), IoError);
  EXPECT_THROW(sha256_file(fs::temp_directory_path()), IoError);
}

}  // namespace
}  // namespace moekit
