#include "moekit/models/transformer.h"

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <unistd.h>

#include <filesystem>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/safetensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/files.h"
#include "moekit/core/json.h"
#include "moekit/models/loaded_model.h"
#include "moekit/models/model_trace.h"
#include "moekit/nn/packing.h"
#include "moekit/published/families.h"
#include "tests/support/refusal.h"

namespace moekit::models {
namespace {
namespace fs = std::filesystem;

constexpr const char* kMixtral = R"({"model_type":"mixtral","hidden_size":16,
  "intermediate_size":12,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,
  "vocab_size":23,"num_local_experts":4,"num_experts_per_tok":2,"sliding_window":5})";
/// Latent attention, groups, a correction, a dense layer, a shared expert.
constexpr const char* kDeepseek = R"({"model_type":"deepseek_v3","hidden_size":16,
  "intermediate_size":20,"moe_intermediate_size":8,"num_hidden_layers":2,"num_attention_heads":2,
  "q_lora_rank":6,"kv_lora_rank":8,"qk_nope_head_dim":4,"qk_rope_head_dim":4,"v_head_dim":6,
  "n_shared_experts":1,"n_routed_experts":8,"num_experts_per_tok":2,"first_k_dense_replace":1,
  "vocab_size":23,"n_group":4,"topk_group":2,"routed_scaling_factor":2.5})";
/// Norms with 1 + weight, gates in the queries' map, a gated shared expert.
constexpr const char* kGated = R"({"model_type":"qwen3_next","hidden_size":16,
  "moe_intermediate_size":8,"shared_expert_intermediate_size":8,"num_hidden_layers":2,
  "num_attention_heads":2,"num_key_value_heads":1,"head_dim":8,"vocab_size":23,"num_experts":4,
  "num_experts_per_tok":2,"layer_types":["full_attention","full_attention"]})";
/// Sinks and windows, values of another size.
constexpr const char* kSinks = R"({"model_type":"mimo_v2_flash","hidden_size":16,
  "intermediate_size":20,"moe_intermediate_size":8,"num_hidden_layers":2,"num_attention_heads":4,
  "num_key_value_heads":1,"head_dim":8,"v_head_dim":4,"vocab_size":23,"n_routed_experts":4,
  "num_experts_per_tok":2,"sliding_window":4,"layer_types":["full_attention","sliding_attention"],
  "mlp_layer_types":["dense","sparse"]})";

/// Chunks, warm queries, norms without weights, weights on the experts' inputs.
constexpr const char* kChunks = R"({"model_type":"llama4_text","hidden_size":16,
  "intermediate_size":8,"intermediate_size_mlp":20,"num_hidden_layers":4,"num_attention_heads":2,
  "num_key_value_heads":1,"head_dim":8,"vocab_size":23,"num_local_experts":4,
  "num_experts_per_tok":1,"interleave_moe_layer_step":2,"attention_chunk_size":4,
  "floor_scale":3})";
/// Two attentions a layer, experts that return their tokens.
constexpr const char* kTwofold = R"({"model_type":"longcat_flash","hidden_size":16,
  "ffn_hidden_size":20,"expert_ffn_hidden_size":8,"num_layers":2,"num_attention_heads":2,
  "q_lora_rank":6,"kv_lora_rank":8,"qk_nope_head_dim":4,"qk_rope_head_dim":4,"v_head_dim":6,
  "n_routed_experts":4,"zero_expert_num":2,"moe_topk":3,"vocab_size":23})";

published::Architecture architecture_of(const char* config) {
  return published::read_architecture(published::ConfigFile(parse_json(config, "c"), "config"));
}

/// A checkpoint of small random weights.
checkpoint::MemoryTensors random_tensors(const published::Architecture& architecture) {
  torch::manual_seed(3);
  checkpoint::MemoryTensors out;
  for (const auto& tensor : published::expected_tensors(architecture)) {
    const bool norm = tensor.name.find("norm") != std::string::npos;
    out.add(tensor.name, torch::randn(tensor.shape) * 0.4 + (norm ? 1 : 0));
  }
  return out;
}

Transformer random_model(const char* config) {
  Transformer model(architecture_of(config));
  const auto tensors = random_tensors(model->architecture());
  model->load(published::WeightReader(model->architecture(), tensors));
  return model;
}

class TransformerOf : public testing::TestWithParam<const char*> {};

TEST_P(TransformerOf, ACacheGivesTheSameLogits) {
  const torch::NoGradGuard no_grad;
  auto model = random_model(GetParam());
  const auto ids = torch::randint(23, {2, 11}, torch::kLong);
  const auto whole = model->forward(ids).logits;
  TransformerCache cache(model->architecture(), 2, 11);
  // A prompt, then one by one, then some at once.
  std::vector<torch::Tensor> parts;
  for (const auto& piece : ids.split_with_sizes({6, 1, 1, 3}, 1)) {
    parts.push_back(model->forward_cached(piece, cache).logits);
  }
  EXPECT_LT((torch::cat(parts, 1) - whole).abs().max().item<double>(), 1e-4);
  EXPECT_EQ(cache.length(), 11);
  EXPECT_NE(refusal([&] {
              model->forward_cached(ids.narrow(1, 0, 1), cache);
            }).find("has room for 0 tokens"),
            std::string::npos);
}

TEST_P(TransformerOf, PaddingBeforeATextChangesNothing) {
  const torch::NoGradGuard no_grad;
  auto model = random_model(GetParam());
  const auto ids = torch::randint(23, {1, 7}, torch::kLong);
  const auto padded = torch::cat({torch::zeros({1, 3}, torch::kLong), ids}, 1);
  const auto mask = torch::cat({torch::zeros({1, 3}), torch::ones({1, 7})}, 1).to(torch::kBool);
  const auto logits = model->forward(padded, mask).logits;
  EXPECT_LT((logits.narrow(1, 3, 7) - model->forward(ids).logits).abs().max().item<double>(), 1e-4);
  EXPECT_EQ(logits.narrow(1, 0, 3).abs().max().item<double>(), 0);
  EXPECT_NE(
      refusal([&] { model->forward(padded, mask.flip(1)); }).find("padding must stand before"),
      std::string::npos);
}

TEST_P(TransformerOf, LaterTokensChangeNoEarlierLogits) {
  const torch::NoGradGuard no_grad;
  auto model = random_model(GetParam());
  const auto ids = torch::randint(23, {1, 9}, torch::kLong);
  auto other = ids.clone();
  other.narrow(1, 6, 3).copy_((ids.narrow(1, 6, 3) + 5) % 23);
  const auto a = model->forward(ids).logits;
  const auto b = model->forward(other).logits;
  EXPECT_LT((a - b).narrow(1, 0, 6).abs().max().item<double>(), 1e-5);
  EXPECT_GT((a - b).narrow(1, 6, 3).abs().max().item<double>(), 1e-3);
}

TEST_P(TransformerOf, GradientReachesEveryWeight) {
  auto model = random_model(GetParam());
  model->forward(torch::randint(23, {4, 12}, torch::kLong)).logits.square().sum().backward();
  for (const auto& item : model->named_parameters()) {
    EXPECT_TRUE(item.value().grad().defined()) << item.key();
  }
}

TEST_P(TransformerOf, PackedWhileReadIsPackedAfterwards) {
  const torch::NoGradGuard no_grad;
  const auto ids = torch::randint(23, {2, 9}, torch::kLong);
  for (const auto format : {kernels::WeightFormat::kInt8, kernels::WeightFormat::kInt4G32}) {
    auto plain = random_model(GetParam());
    const auto exact = plain->forward(ids).logits;
    nn::pack_networks(*plain, format);
    Transformer packed(plain->architecture(), format);
    const auto tensors = random_tensors(packed->architecture());
    packed->load(published::WeightReader(packed->architecture(), tensors));
    const auto logits = packed->forward(ids).logits;
    EXPECT_TRUE(logits.equal(plain->forward(ids).logits));
    EXPECT_FALSE(logits.equal(exact));
    EXPECT_LT(packed->parameters().size(), plain->parameters().size());
  }
}

INSTANTIATE_TEST_SUITE_P(All, TransformerOf,
                         testing::Values(kMixtral, kDeepseek, kGated, kSinks, kChunks, kTwofold));

TEST(Transformer, WindowsEndWhereTheySay) {
  const torch::NoGradGuard no_grad;
  auto model = random_model(kMixtral);
  // Two layers of 5 tokens each: a token 9 back is out of reach, one 8 back is not.
  auto ids = torch::randint(23, {1, 10}, torch::kLong);
  const auto last = [&] { return model->forward(ids).logits[0][9].clone(); };
  const auto before = last();
  ids[0][0] = (ids[0][0] + 7) % 23;
  EXPECT_EQ((last() - before).abs().max().item<double>(), 0);
  ids[0][1] = (ids[0][1] + 7) % 23;
  EXPECT_GT((last() - before).abs().max().item<double>(), 0);
}

TEST(Transformer, FusedExpertsAreTheSame) {
  const torch::NoGradGuard no_grad;
  const auto architecture = architecture_of(kMixtral);
  const auto each = random_tensors(architecture);
  checkpoint::MemoryTensors fused;
  for (const auto& tensor : published::expected_tensors(architecture, 1)) {
    const auto at = tensor.name.find("mlp.");
    if (at == std::string::npos) {
      fused.add(tensor.name, each.read(tensor.name));
      continue;
    }
    const auto prefix = tensor.name.substr(0, at) + "block_sparse_moe.";
    if (tensor.name.find("gate.weight") != std::string::npos) {
      fused.add(tensor.name, each.read(prefix + "gate.weight"));
      continue;
    }
    std::vector<torch::Tensor> rows;
    for (int64_t e = 0; e < 4; ++e) {
      const auto of = [&](const char* name) {
        return each.read(concat(prefix, "experts.", e, ".", name, ".weight"));
      };
      const bool up = tensor.name.find("gate_up") != std::string::npos;
      rows.push_back(up ? torch::cat({of("w1"), of("w3")}, 0) : of("w2"));
    }
    fused.add(tensor.name, torch::stack(rows));
  }
  const auto logits_of = [&](const checkpoint::TensorSource& tensors) {
    Transformer model(architecture);
    model->load(published::WeightReader(model->architecture(), tensors));
    return model->forward(torch::arange(9, torch::kLong).unsqueeze(0)).logits;
  };
  EXPECT_TRUE(logits_of(each).equal(logits_of(fused)));
}

TEST(Transformer, RefusesWhatItCannotLoad) {
  const auto architecture = architecture_of(kMixtral);
  const auto whole = random_tensors(architecture);
  const std::string name = "model.layers.1.block_sparse_moe.experts.2.w3.weight";
  const auto said = [&](const torch::Tensor& instead) {
    checkpoint::MemoryTensors some;
    for (const auto& each : whole.names()) {
      if (each != name) some.add(each, whole.read(each));
    }
    if (instead.defined()) some.add(name, instead);
    Transformer model(architecture);
    return refusal([&] { model->load(published::WeightReader(model->architecture(), some)); });
  };
  EXPECT_NE(said({}).find(name + " is missing"), std::string::npos);
  EXPECT_NE(said(torch::zeros({3, 4})).find(name + " is [3, 4], not [12, 16]"), std::string::npos);
  EXPECT_NE(said(torch::full({12, 16}, NAN)).find(name + " has values that are NaN"),
            std::string::npos);
  auto model = random_model(kMixtral);
  EXPECT_NE(refusal([&] {
              model->forward(torch::full({1, 2}, 23, torch::kLong));
            }).find("ids must be 0..22; got 23"),
            std::string::npos);
}

TEST(LoadedModel, IsHeldAgainstItsConfigBeforeMemoryIsTaken) {
  const auto folder = fs::temp_directory_path() / concat("moekit-load-", ::getpid());
  fs::create_directories(folder);
  const auto said = [&](const char* key, const Json& value,
                        const checkpoint::TensorSource& tensors) {
    Json config = parse_json(kMixtral, "c");
    config[key] = value;
    write_json(folder / "config.json", config);
    checkpoint::write_safetensors(folder / "model.safetensors", tensors);
    return refusal([&] { load_published(folder); });
  };
  const auto whole = random_tensors(architecture_of(kMixtral));
  // Half a petabyte by the config: the files do not say so.
  const auto wide = said("intermediate_size", 1 << 30, whole);
  EXPECT_NE(wide.find("w1.weight is [12, 16], not [1073741824, 16]"), std::string::npos) << wide;
  EXPECT_NE(wide.find("and "), std::string::npos);
  const auto more = said("num_local_experts", 5, whole);
  EXPECT_NE(more.find("gate.weight is [4, 16], not [5, 16]"), std::string::npos) << more;
  EXPECT_NE(said("hidden_act", "gelu", whole).find("with activation gelu"), std::string::npos);
  for (const auto kind : {torch::kInt, torch::kUInt8, torch::kBool, torch::kLong}) {
    checkpoint::MemoryTensors some;
    for (const auto& name : whole.names()) {
      const bool changed = name == "model.layers.0.self_attn.q_proj.weight";
      some.add(name, changed ? torch::ones({16, 16}, kind) : whole.read(name));
    }
    const auto no_float = said("vocab_size", 23, some);
    EXPECT_NE(no_float.find("q_proj.weight is"), std::string::npos) << no_float;
    EXPECT_NE(no_float.find(", not floats"), std::string::npos) << no_float;
  }
  fs::remove_all(folder);
}

TEST(ModelTrace, WritesWhatAModelComputes) {
  const torch::NoGradGuard no_grad;
  const auto place = fs::temp_directory_path() / concat("moekit-trace-", ::getpid());
  const auto folder = place / "model";
  fs::create_directories(folder);
  write_json(folder / "config.json", parse_json(kMixtral, "c"));
  checkpoint::write_safetensors(folder / "model.safetensors",
                                random_tensors(architecture_of(kMixtral)));
  const auto ids = place / "ids.json";
  write_file_atomic(ids, R"({"input_ids": [[1, 2, 3, 4], [5, 6, 7, 8]], "new_tokens": 3,
    "padded": {"input_ids": [[0, 1], [3, 4]], "attention_mask": [[0, 1], [1, 1]]}})");
  write_model_trace(folder, ids, place / "out.safetensors");
  const auto out = checkpoint::open_tensors(place / "out.safetensors");
  auto model = load_published(folder);
  const auto pass = model->forward(torch::tensor({{1, 2, 3, 4}, {5, 6, 7, 8}}, torch::kLong));
  EXPECT_TRUE(out->read("logits").equal(pass.logits));
  EXPECT_TRUE(out->read("hidden.2").equal(pass.hidden.back()));
  EXPECT_EQ(out->info("experts.1").shape, (std::vector<int64_t>{8, 2}));
  EXPECT_EQ(out->info("generated").dtype, checkpoint::Dtype::kI32);
  EXPECT_EQ(out->info("padded.generated").shape, (std::vector<int64_t>{2, 3}));
  const auto said = [&](const char* text) {
    write_file_atomic(ids, text);
    return refusal([&] { write_model_trace(folder, ids, place / "no.safetensors"); });
  };
  EXPECT_NE(said("[]").find("no JSON object"), std::string::npos);
  EXPECT_NE(said(R"({"input_ids": []})").find("rows of whole numbers"), std::string::npos);
  EXPECT_NE(said(R"({"input_ids": [[1], [1, 2]]})").find("rows of one length"), std::string::npos);
  EXPECT_NE(said(R"({"input_ids": [[1, 23]]})").find("23 is not one of 0..22"), std::string::npos);
  EXPECT_NE(said(R"({"input_ids": [[1, -1]]})").find("-1 is not one of"), std::string::npos);
  EXPECT_NE(said(R"({"input_ids": [[1.5]]})").find("1.5 is not one of"), std::string::npos);
  EXPECT_NE(said(R"({"input_ids": [[9223372036854775808]]})").find("ids.json: input_ids"),
            std::string::npos);
  write_file_atomic(ids, R"({"input_ids": [[1]]})");
  for (const auto& bad : {folder, folder / "no" / "x", ids, folder / "model.safetensors"}) {
    EXPECT_NE(refusal([&] { write_model_trace(folder, ids, bad); }).find("--output"),
              std::string::npos)
        << bad;
  }
  EXPECT_NE(said(R"({"input_ids": [[1]], "new_tokens": 1e9})").find("new_tokens"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(place / "no.safetensors"));
  fs::remove_all(place);
}

}  // namespace
}  // namespace moekit::models
