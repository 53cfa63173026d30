#include "moekit/kernels/common/path_cache.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "moekit/core/files.h"

namespace moekit::kernels {
namespace {
namespace fs = std::filesystem;

/// A cache folder of the test's own.
class PathCache : public testing::Test {
 protected:
  PathCache() {
    const char* before = std::getenv("XDG_CACHE_HOME");
    if (before != nullptr) before_ = before;
    ::setenv("XDG_CACHE_HOME", folder_.c_str(), 1);
    fs::remove_all(folder_);
  }
  ~PathCache() override {
    fs::remove_all(folder_);
    if (before_) {
      ::setenv("XDG_CACHE_HOME", before_->c_str(), 1);
    } else {
      ::unsetenv("XDG_CACHE_HOME");
    }
  }
  fs::path folder_ = fs::path(testing::TempDir()) / "moekit_path_cache";

 private:
  std::optional<std::string> before_;
};

TEST_F(PathCache, GivesBackWhatWasKept) {
  const auto sets = supported_isas();
  const PathChoice choice{{sets.front(), sets.back(), sets.front()}, {sets.front(), sets.back()}};
  EXPECT_EQ(read_choice(), std::nullopt);
  keep_choice(choice);
  EXPECT_TRUE(fs::exists(folder_ / "moekit" / "instruction-sets"));
  EXPECT_EQ(read_choice(), choice);
  const PathChoice other{sets.back(), {}};
  keep_choice(other);
  EXPECT_EQ(read_choice(), other);
}

TEST_F(PathCache, MeasuresOnceAndKeepsIt) {
  const auto measured = measure_choice();
  EXPECT_EQ(read_choice(), measured);
}

TEST_F(PathCache, IgnoresWhatAnotherMachineOrVersionWrote) {
  const PathChoice choice{Isa::kReference, {}};
  const auto text = choice_text(choice, choice_owner());
  EXPECT_EQ(parse_choice(text, choice_owner()), choice);
  EXPECT_EQ(parse_choice(choice_text(choice, "moekit 0.0.1\nother\n"), choice_owner()),
            std::nullopt);
  keep_choice(choice);
  write_file_atomic(*choice_file(), "moekit 99" + text.substr(9));
  EXPECT_EQ(read_choice(), std::nullopt);
}

TEST_F(PathCache, IgnoresWhatIsNoChoice) {
  const auto owner = choice_owner();
  const auto good = choice_text({Isa::kReference, {}}, owner);
  for (std::size_t size = 0; size + 1 < good.size(); ++size) {  // the last newline is not needed
    EXPECT_EQ(parse_choice(good.substr(0, size), owner), std::nullopt) << size;
  }
  for (const char* body : {"f32 mmx\nbf16 reference\nintegers reference\nrefused\n",
                           "f32 reference reference\nbf16 reference\nintegers reference\nrefused\n",
                           "f32\nbf16 reference\nintegers reference\nrefused\n",
                           "bf16 reference\nf32 reference\nintegers reference\nrefused\n"}) {
    EXPECT_EQ(parse_choice(owner + body, owner), std::nullopt) << body;
  }
  fs::create_directories(*choice_file());  // a folder in its place
  EXPECT_EQ(read_choice(), std::nullopt);
  keep_choice({Isa::kReference, {}});
  EXPECT_EQ(read_choice(), std::nullopt);
}

TEST_F(PathCache, DoesWithoutAFolder) {
  ::setenv("XDG_CACHE_HOME", "not/absolute", 1);
  const char* before = std::getenv("HOME");
  const std::string home = before == nullptr ? "" : before;
  ::unsetenv("HOME");
  EXPECT_EQ(choice_file(), std::nullopt);
  keep_choice({Isa::kReference, {}});
  EXPECT_EQ(read_choice(), std::nullopt);
  if (before != nullptr) ::setenv("HOME", home.c_str(), 1);
}

}  // namespace
}  // namespace moekit::kernels
