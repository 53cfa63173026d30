// Every checkpoint that another implementation wrote: its tensors are those that the config asks
// for, in whatever way they are stored.
#include <gtest/gtest.h>

#include <filesystem>

#include "moekit/checkpoint/sharded.h"
#include "moekit/published/description.h"
#include "moekit/published/families.h"
#include "moekit/published/inventory.h"
#include "tests/support/refusal.h"

namespace moekit::published {
namespace {
namespace fs = std::filesystem;

class GoldenHeaders : public testing::TestWithParam<const char*> {};

TEST_P(GoldenHeaders, AreWhatTheConfigSays) {
  const fs::path folder = fs::path(MOEKIT_TEST_REFERENCE) / GetParam();
  if (!fs::exists(folder / "config.json")) GTEST_SKIP() << folder << " is not there";
  int forms = 0;
  for (const char* form : {"", "fused", "sharded"}) {
    const fs::path of_form = folder / form;
    if (!fs::exists(of_form / "config.json")) continue;
    SCOPED_TRACE(of_form);
    ++forms;
    const auto tensors = checkpoint::open_tensors(of_form);
    const auto inventory = take_inventory(read_architecture(of_form), tensors.get());
    EXPECT_EQ(inventory.missing, std::vector<std::string>());
    EXPECT_EQ(inventory.unknown, std::vector<std::string>());
    EXPECT_EQ(inventory.misshapen, std::vector<std::string>());
    uint64_t bytes = 0;
    for (const auto& name : tensors->names()) bytes += tensors->info(name).bytes;
    for (const auto& name : inventory.not_used) bytes -= tensors->info(name).bytes;
    EXPECT_EQ(inventory.bytes, bytes);
    // One that is not there is told by name.
    const auto text = description_text(describe_model(of_form));
    EXPECT_EQ(text.find("missing"), std::string::npos) << text;
  }
  EXPECT_GE(forms, 1);
}

INSTANTIATE_TEST_SUITE_P(
    All, GoldenHeaders,
    testing::Values("afmoe", "cohere2_moe", "dbrx", "deepseek_v2", "deepseek_v2_lite",
                    "deepseek_v3", "deepseek_v3_bf16", "deepseek_v3_fp8", "dots1", "ernie4_5_moe",
                    "exaone_moe", "flex_olmo", "glm4_moe", "glm4_moe_lite", "gpt_oss",
                    "gpt_oss_mxfp4", "granitemoe", "granitemoehybrid", "granitemoeshared",
                    "hunyuan_v1_moe", "hy_v3", "jamba", "lfm2_moe", "llama4_text", "longcat_flash",
                    "mimo_v2_flash", "minimax", "minimax_m2", "mixtral", "mixtral_bf16", "olmoe",
                    "phimoe", "qwen2_moe", "qwen3_5_moe_text", "qwen3_moe", "qwen3_moe_bf16",
                    "qwen3_next", "solar_open", "trained"),
    [](const auto& row) { return std::string(row.param); });

TEST(GoldenHeaders, OfAnEncoderAndDecoderAreRefused) {
  const fs::path folder = fs::path(MOEKIT_TEST_REFERENCE) / "switch_transformers";
  if (!fs::exists(folder / "config.json")) GTEST_SKIP() << folder << " is not there";
  EXPECT_NE(refusal([&] { read_architecture(folder); }).find("not a family that is known"),
            std::string::npos);
}

}  // namespace
}  // namespace moekit::published
