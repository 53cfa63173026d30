#include "moekit/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/json.h"

namespace moekit::checkpoint {
namespace {
namespace fs = std::filesystem;

class ManifestTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    write_file_atomic(folder_ / "a", "first");
    write_file_atomic(folder_ / "b", std::string(5000, 'b'));
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string refusal() {
    try {
      check_manifest(folder_);
    } catch (const FormatError& error) {
      return error.what();
    }
    return "";
  }
  fs::path folder_ = fs::temp_directory_path() / concat("moekit-manifest-", ::getpid());
};

TEST_F(ManifestTest, HoldsWhileNothingChanges) {
  EXPECT_FALSE(check_manifest(folder_));
  EXPECT_FALSE(check_in_manifest(folder_ / "a"));
  write_manifest(folder_);
  write_file_atomic(folder_ / "note", "mine");
  EXPECT_TRUE(check_manifest(folder_));
  EXPECT_TRUE(check_in_manifest(folder_ / "a"));
  EXPECT_FALSE(check_in_manifest(folder_ / "note"));
}

TEST_F(ManifestTest, SeesEveryFlippedBit) {
  write_manifest(folder_);
  for (const size_t position : {0U, 2499U, 4999U}) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bytes(5000, 'b');
      bytes[position] = static_cast<char>(bytes[position] ^ (1 << bit));
      write_file_atomic(folder_ / "b", bytes);
      EXPECT_NE(refusal().find((folder_ / "b").string() + ": is damaged"), std::string::npos);
      EXPECT_THROW(check_in_manifest(folder_ / "b"), FormatError);
      EXPECT_TRUE(check_in_manifest(folder_ / "a"));
    }
  }
}

TEST_F(ManifestTest, NamesWhatIsMissingCutOrNoManifest) {
  write_manifest(folder_);
  write_file_atomic(folder_ / "b", "short");
  EXPECT_NE(refusal().find("b: has 5 bytes, manifest.json says 5000"), std::string::npos);
  fs::remove(folder_ / "b");
  EXPECT_NE(refusal().find("b: is missing"), std::string::npos);
  const auto with = [&](const Json& json) {
    write_json(folder_ / "manifest.json", json);
    return refusal();
  };
  const Json entry = {{"bytes", 1}, {"sha256", ""}};
  for (const char* name : {"../a", "/etc/passwd", "..", "sub/a", ""}) {
    EXPECT_NE(with({{"files", {{name, entry}}}}).find("no file of this folder"), std::string::npos)
        << name;
  }
  EXPECT_NE(with({{"files", {{"a", 3}}}}).find("files.a must be an object; got 3"),
            std::string::npos);
  EXPECT_NE(with(Json::object()).find("lacks files"), std::string::npos);
  write_file_atomic(folder_ / "manifest.json", "{");
  EXPECT_NE(refusal().find("is no JSON"), std::string::npos);
  // A link that leads nowhere, or in a circle, is no missing manifest.
  for (const char* target : {"nowhere", "manifest.json"}) {
    fs::remove(folder_ / "manifest.json");
    fs::create_symlink(target, folder_ / "manifest.json");
    EXPECT_THROW(check_manifest(folder_), IoError) << target;
  }
}

}  // namespace
}  // namespace moekit::checkpoint
