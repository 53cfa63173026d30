#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "moekit/checkpoint/safetensors.h"
#include "moekit/core/files.h"
#include "moekit/published/description.h"
#include "moekit/published/families.h"
#include "moekit/published/inventory.h"
#include "tests/support/refusal.h"

namespace moekit::published {
namespace {
namespace fs = std::filesystem;

Json small_config() {
  return parse_json(R"({"model_type":"mixtral","hidden_size":8,"intermediate_size":12,
    "num_hidden_layers":2,"num_attention_heads":2,"num_key_value_heads":1,"vocab_size":16,
    "num_local_experts":4,"num_experts_per_tok":2,"torch_dtype":"bfloat16"})",
                    "small");
}

class Description : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              concat("moekit-published-", ::getpid(), "-",
                     testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const Json& config, const std::vector<ExpectedTensor>& tensors) const {
    write_json(folder_ / "config.json", config);
    std::vector<checkpoint::TensorInfo> infos;
    for (const auto& tensor : tensors) {
      infos.push_back(
          checkpoint::make_tensor_info(tensor.name, checkpoint::Dtype::kBF16, tensor.shape));
    }
    checkpoint::SafetensorsWriter out(folder_ / "model.safetensors", infos);
    for (const auto& tensor : tensors) {
      out.write(tensor.name, torch::zeros(tensor.shape, torch::kBFloat16));
    }
    out.commit();
  }

  fs::path folder_;
};

TEST_F(Description, TellsWhatAModelIs) {
  write(small_config(), expected_tensors(read_architecture(ConfigFile(small_config(), "small"))));
  const Json d = describe_model(folder_);
  // 2 * 16 * 8 embedding and head, 8 norm; a layer: 2 * 64 + 2 * 32 attention, 16 norms,
  // 32 router, 4 * 3 * 96 experts.
  const int64_t experts = 4 * 3 * 96;
  EXPECT_EQ(d["parameters"], 256 + 8 + 2 * (192 + 16 + 32 + experts));
  EXPECT_EQ(d["active_parameters"], d["parameters"].get<int64_t>() - experts);
  EXPECT_EQ(d["bytes"], 2 * d["parameters"].get<int64_t>());
  EXPECT_EQ(d["mixtures"][0]["router"],
            "softmax over all 4, the best 2; weights divided by their "
            "sum");
  EXPECT_EQ(d["mixtures"][0]["layers"], "0-1");
  const auto text = description_text(d);
  EXPECT_NE(text.find("mixtral: 2 layers of 8, vocabulary 16"), std::string::npos) << text;
  EXPECT_NE(text.find("grouped: 2 heads of 4 over 1 of keys and values"), std::string::npos);
  EXPECT_EQ(text.find("tensors"), text.find("tensors of every expert")) << text;
}

TEST_F(Description, WithoutFilesTellsWhatTheConfigComesTo) {
  write_json(folder_ / "config.json", small_config());
  const Json whole = describe_model(folder_);
  const Json alone = describe_model(folder_ / "config.json");
  EXPECT_EQ(whole["parameters"], alone["parameters"]);
  EXPECT_EQ(whole["bytes"], 2 * whole["parameters"].get<int64_t>());
  EXPECT_EQ(whole["weights"], false);
}

TEST_F(Description, NamesTensorsThatAreMissingUnknownOrOfAnotherShape) {
  auto tensors = expected_tensors(read_architecture(ConfigFile(small_config(), "small")));
  std::erase_if(tensors, [](const auto& tensor) {
    return tensor.name == "model.layers.1.block_sparse_moe.experts.3.w2.weight";
  });
  tensors[1].shape = {4, 16};  // of 8 x 8
  tensors.push_back({"model.layers.0.extra.weight", {2}});
  tensors.push_back({"model.layers.2.mtp.weight", {2}});
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", {2}});
  write(small_config(), tensors);
  const Json found = describe_model(folder_)["tensors"];
  EXPECT_EQ(found["missing"], Json::array({"model.layers.1.block_sparse_moe.experts.3.w2.weight"}));
  EXPECT_EQ(found["unknown"], Json::array({"model.layers.0.extra.weight"}));
  EXPECT_EQ(found["misshapen"],
            Json::array({"model.layers.0.self_attn.q_proj.weight is [4, 16], not [8, 8]"}));
  EXPECT_EQ(found["not_used"], Json::array({"model.layers.2.mtp.weight",
                                            "model.layers.0.self_attn.rotary_emb.inv_freq"}));
}

TEST_F(Description, FindsTheTextPartOfAModelOfSeveral) {
  Json config;
  config["model_type"] = "some_vision_model";
  config["text_config"] = small_config();
  auto tensors = expected_tensors(read_architecture(ConfigFile(small_config(), "small")));
  for (auto& tensor : tensors) tensor.name = "language_model." + tensor.name;
  tensors.push_back({"vision_tower.patch.weight", {2, 2}});
  write(config, tensors);
  const Json found = describe_model(folder_)["tensors"];
  EXPECT_TRUE(found["missing"].empty()) << found;
  EXPECT_TRUE(found["unknown"].empty()) << found;
  EXPECT_EQ(found["not_used"].size(), 1U);
}

TEST_F(Description, RefusesConfigsThatCannotBe) {
  struct Row {
    const char* key;
    Json value;
    const char* said;
  };
  const Row rows[] = {
      {"model_type", "mixtrall", "did you mean mixtral?"},
      {"model_type", "bert", "known are afmoe"},
      {"model_type", Json(), "model_type: missing"},
      {"model_type", 3, "model_type = 3: a text is wanted"},
      {"hidden_size", -8, "hidden_size = -8: must be 1..2147483648"},
      {"hidden_size", 1e300, "hidden_size = 1e+300: a whole number is wanted"},
      {"hidden_size", uint64_t{1} << 63, "a whole number is wanted"},
      {"hidden_size", "8", "hidden_size = \"8\": a whole number is wanted"},
      {"hidden_size", 9, "num_attention_heads = 2: must divide hidden_size = 9"},
      {"hidden_size", Json(), "hidden_size: missing"},
      {"num_key_value_heads", 3, "num_key_value_heads = 3: must divide num_attention_heads = 2"},
      {"num_hidden_layers", 1000000, "num_hidden_layers = 1000000: at most 10000"},
      {"num_local_experts", 100000, "100000 experts, at most 65536"},
      {"num_experts_per_tok", 5, "5 experts a token of 4"},
      {"rope_theta", -1, "rope_theta = -1: must be above 0"},
      {"rope_scaling", Json::parse(R"({"type":"yarn","beta_slow":-1e-300})"),
       "rope_scaling.beta_slow = -1e-300: must be above 0"},
      {"rope_scaling", Json::parse(R"({"type":"llama3","high_freq_factor":1})"),
       "must be above low_freq_factor = 1"},
      {"quantization_config", Json::parse(R"({"quant_method":"awq"})"),
       "quantization_config.quant_method = \"awq\": fp8 and mxfp4 are known"},
      {"tie_word_embeddings", 1, "tie_word_embeddings = 1: true or false is wanted"},
  };
  for (const auto& row : rows) {
    Json config = small_config();
    config[row.key] = row.value;
    write_json(folder_ / "config.json", config);
    const auto said = refusal([&] { describe_model(folder_); });
    EXPECT_NE(said.find(row.said), std::string::npos) << said;
    EXPECT_EQ(said.find((folder_ / "config.json").string()), 0U) << said;
  }
}

TEST_F(Description, RefusesFoldersThatAreNone) {
  EXPECT_NE(refusal([&] { describe_model(folder_); }).find("config.json"), std::string::npos);
  write_file_atomic(folder_ / "config.json", "[1, 2]");
  EXPECT_NE(refusal([&] { describe_model(folder_); }).find("no JSON object"), std::string::npos);
  write_json(folder_ / "config.json", Json::parse(R"({"task":"language"})"));
  write_json(folder_ / "manifest.json", Json::object());
  EXPECT_NE(refusal([&] { describe_model(folder_); }).find("a run of moekit"), std::string::npos);
}

TEST_F(Description, KeepsHostileSizesOutOfMemory) {
  Json config = small_config();
  config["num_hidden_layers"] = 10000;
  config["num_local_experts"] = 65536;
  write_json(folder_ / "config.json", config);
  EXPECT_NE(refusal([&] { describe_model(folder_); }).find("tensors"), std::string::npos);
}

}  // namespace
}  // namespace moekit::published
