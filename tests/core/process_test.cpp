#include "moekit/core/process.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace moekit {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// What OpenBLAS must be told here: other makers' processors it knows by their features.
std::string wanted_kernels() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (__builtin_cpu_is("intel") && avx2) {
    return __builtin_cpu_supports("avx512bw") ? "SkylakeX" : "Haswell";
  }
#endif
  return "";
}

/// Gives the two variables back as they were.
class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kNames) {
      before_.push_back(variable(name));
      ::unsetenv(name);
    }
  }
  void TearDown() override {
    for (size_t i = 0; i < before_.size(); ++i) {
      ::unsetenv(kNames[i]);
      if (!before_[i].empty()) ::setenv(kNames[i], before_[i].c_str(), 1);
    }
  }

 private:
  static constexpr const char* kNames[] = {"OPENBLAS_CORETYPE", "GOMP_SPINCOUNT",
                                           "OMP_WAIT_POLICY"};
  std::vector<std::string> before_;
};

TEST_F(ProcessTest, SetsWhatIsMissingOnce) {
  EXPECT_TRUE(prepare_process());
  EXPECT_EQ(variable("GOMP_SPINCOUNT"), "3000");
  EXPECT_EQ(variable("OPENBLAS_CORETYPE"), wanted_kernels());
  EXPECT_FALSE(prepare_process());
}

TEST_F(ProcessTest, LetsTheUsersSettingsStand) {
  ::setenv("OPENBLAS_CORETYPE", "Prescott", 1);
  ::setenv("OMP_WAIT_POLICY", "active", 1);
  EXPECT_FALSE(prepare_process());
  EXPECT_EQ(variable("OPENBLAS_CORETYPE"), "Prescott");
  EXPECT_EQ(variable("GOMP_SPINCOUNT"), "");
}

}  // namespace
}  // namespace moekit
