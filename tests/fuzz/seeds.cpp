// fuzz_seeds CORPUS SOURCE: sound inputs for every target, in CORPUS/TARGET, to start from. What
// has a writer of ours is written by it; the rest are the repository's own recipes, studies and
// metrics.
#include <torch/optim/adam.h>
#include <torch/optim/sgd.h>

#include <cstdio>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/optimizer_io.h"
#include "moekit/checkpoint/safetensors.h"
#include "moekit/core/files.h"
#include "moekit/metrics/routing_trace.h"
#include "moekit/run/checkpoint.h"
#include "moekit/run/run_folder.h"
#include "moekit/text/documents.h"
#include "moekit/text/token_file.h"
#include "tests/fuzz/tiny_problem.h"

namespace moekit::fuzz {
namespace {
namespace fs = std::filesystem;

constexpr std::uintmax_t kMaxSeed = 4096;  // longer ones would only slow the search down

void write_tensors(const fs::path& corpus) {
  create_folders(corpus / "safetensors");
  checkpoint::write_safetensors(
      corpus / "safetensors" / "types",
      checkpoint::MemoryTensors({{"a.weight", torch::ones({2, 3})},
                                 {"b", torch::tensor({1, 0}, torch::kBool)},
                                 {"c", torch::ones({1}, torch::kBFloat16)},
                                 {"none", torch::zeros({0, 2}, torch::kLong)}},
                                {{"format", "pt"}}));
  checkpoint::SafetensorsWriter writer(
      corpus / "safetensors" / "codes",
      {checkpoint::make_tensor_info("f8", *checkpoint::parse_dtype("F8_E4M3"), {3}),
       checkpoint::make_tensor_info("u64", *checkpoint::parse_dtype("U64"), {})});
  writer.write("f8", torch::ones({3}, torch::kUInt8));
  writer.write("u64", torch::tensor(-1, torch::kLong));
  writer.commit();
  create_folders(corpus / "index");
  write_file_atomic(corpus / "index" / "two",
                    R"({"metadata": {"total_size": 36, "format": "pt"},
                        "weight_map": {"a": "one", "b": "two", "c": "one"}})");
}

void write_records(const fs::path& corpus) {
  create_folders(corpus / "record");
  write_file_atomic(corpus / "record" / "two_rows", R"({
    "command": "moekit reproduce x --quick --seeds 6 --set k=1 --allow-missing",
    "request": {"paper": "x", "tier": "quick", "rows": "*", "seeds": 6, "until_decided": false,
                "max_seeds": 0, "set": ["k=1"], "data": false, "allow_missing": true},
    "set": ["k=1"], "tier": "quick", "seeds": 6, "looks": 1, "allow_missing": true, "maker": {"version": "1", "libtorch": "2", "machine": "m"},
    "rows": {"g/a": {"data": "d", "seeds": [1, 2, 3, 4, 5, 6], "missing_seeds": {"6": "killed"},
                     "values": {"a": [1, 2, 3, 4, 5, null], "b": [1, 0, 1, null, 1, null]}},
             "g/b": {"data": "d", "usual_data": "e", "seeds": [1, 2, 3, 4, 5],
                     "values": {"a": [2, 3, 4.5, 5, 6]}}},
    "trials": [{"row": "g/a", "set": ["k=2"], "seeds": 2, "value": 1.5, "chosen": true},
               {"row": "g/a", "set": ["k=3"], "seeds": 0, "value": null, "chosen": false,
                "missing": "not run"}]})");
}

void write_traces(const fs::path& corpus) {
  create_folders(corpus / "trace");
  const auto index = torch::tensor({{0, 1}, {2, 0}, {1, 2}});
  metrics::RoutingTrace trace;
  trace.layers.push_back(metrics::make_layer_trace("mixture", index, torch::full({3, 3}, 1.0 / 3)));
  trace.layers.push_back(
      {"uneven", torch::tensor({0, 0, 2}), torch::tensor({1, 0, 1}), torch::full({3, 2}, 0.5)});
  trace.labels["label"] = torch::tensor({0, 1, 1});
  trace.expert_log_probs = torch::zeros({3, 3, 2});
  metrics::write_trace(corpus / "trace" / "two_layers", trace);
  checkpoint::write_safetensors(
      corpus / "trace" / "version1",
      checkpoint::MemoryTensors(
          {{"l.expert_index", index}, {"l.probs", torch::full({3, 3}, 1.0F / 3)}},
          {{"format", "moekit-routing-trace"}, {"version", "1"}, {"layers", "l"}}));
}

template <typename Optimizer, typename Options>
void write_optimizer(const fs::path& file, const Options& options) {
  TinyProblem problem;
  Optimizer optimizer(problem.module().parameters(), options);
  problem.forward({}).loss.backward();
  optimizer.step();
  checkpoint::write_safetensors(file, checkpoint::optimizer_tensors(optimizer, problem.module()));
}

void write_run(const fs::path& corpus) {
  create_folders(corpus / "optimizer");
  write_optimizer<torch::optim::Adam>(corpus / "optimizer" / "adam",
                                      torch::optim::AdamOptions(0.1));
  write_optimizer<torch::optim::SGD>(corpus / "optimizer" / "sgd",
                                     torch::optim::SGDOptions(0.1).momentum(0.9));
  TinyProblem problem;
  train::Trainer trainer(problem, nullptr, {}, {});
  const fs::path run = corpus / "state" / "run";
  run::save_checkpoint(run, trainer, {Json{{"epoch", 1}, {"test", {{"error", 0.25}}}}});
  fs::rename(run::list_checkpoints(run).begin()->second / "state.json", corpus / "state" / "state");
  fs::remove_all(run);
  create_folders(corpus / "summary");
  write_file_atomic(corpus / "summary" / "summary",
                    R"({"recipe": "mnist", "seed": 1, "epochs": 3, "stopped_early": false,
  "parameters": 9710, "test": {"error": 0.034, "layers": {"mixture": {"usage": [0.5, 0.5],
  "by_label": {"counts": [[1, 2], [3, 4]]}, "dead": []}}}, "seconds": 1.5})");
}

void write_tokenizers(const fs::path& corpus) {
  create_folders(corpus / "tokenizer");
  text::character_tokenizer("a b\n").save(corpus / "tokenizer" / "characters");
  write_file_atomic(corpus / "tokenizer" / "bytes", R"json({"version": "1.0", "truncation": null,
    "added_tokens": [{"id": 5, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": true,
                      "normalized": false, "special": true}, {"id": 6, "content": "It"}],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"},
      {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "(?i:'s)|[^\\r\\n\\p{L}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)"},
       "behavior": "Isolated", "invert": false}, {"type": "Digits", "individual_digits": true},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
    "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}},
      {"Sequence": {"id": "A"}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [5]}}},
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "unk_token": "i", "fuse_unk": true, "byte_fallback": true,
              "ignore_merges": true, "vocab": {"i": 0, "t": 1, "\u0120": 2, "it": 3, "\u0120it": 4},
              "merges": ["i t", ["\u0120", "it"]]}})json");
  write_file_atomic(corpus / "tokenizer" / "unigram", R"json({
    "normalizer": {"type": "Prepend", "prepend": "_"},
    "pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"},
    "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Replace", "pattern": {"String": "_"}, "content": " "},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}, {"type": "Metaspace"}]},
    "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": true,
              "vocab": [["<unk>", 0], ["_It", -1.5], ["s", -2], ["<0xC3>", -3]]}})json");
  create_folders(corpus / "tokens");
  text::TokenFileWriter writer(corpus / "tokens" / "two", text::byte_tokenizer(), {"a", "b"});
  const std::vector<std::int32_t> ids = {1, 2, 255};
  writer.append(ids);
  writer.end_document(1);
  writer.end_document(0);
  writer.commit();
}

void write_images(const fs::path& corpus) {
  create_folders(corpus / "idx");
  std::string images("\0\0\x08\x03\0\0\0\x02\0\0\0\x02\0\0\0\x03", 16);
  images += std::string(12, 'p');
  write_file_atomic(corpus / "idx" / "images", images);
  write_file_atomic(corpus / "idx" / "labels", std::string("\0\0\x08\x01\0\0\0\x02\x07\x09", 10));
  create_folders(corpus / "cifar");
  write_file_atomic(corpus / "cifar" / "one", std::string(1, '\3') + std::string(3072, 'p'));
  write_file_atomic(corpus / "cifar" / "two", std::string("\3\x14", 2) + std::string(3072, 'p'));
}

/// Files of the repository that are not too long.
void copy_texts(const fs::path& corpus, const fs::path& source) {
  for (const char* target : {"recipe", "study", "metrics"}) create_folders(corpus / target);
  int count = 0;
  const auto add = [&](const char* target, const std::string& text) {
    write_file_atomic(corpus / target / concat("seed", count++), text.substr(0, kMaxSeed));
  };
  for (const auto& entry : fs::recursive_directory_iterator(source / "recipes")) {
    if (entry.path().extension() != ".toml") continue;
    const std::string text = read_file(entry.path());
    if (entry.path().filename() == "study.toml") {
      // Whole tables, as many as fit.
      add("study", text.substr(0, text.rfind("\n[[", kMaxSeed) + 1));
    } else {
      add("recipe", text);
      add("recipe", "--set train.lr=[1, 2]\n" + text);
    }
  }
  add("recipe",
      "[data]\nname = \"cluster-patch\"\noptions = { num_train = 400, gamma = [0.5, 2.0] }\n"
      "[model]\nkind = \"sparse_mixture\"\nnum_experts = 4\n[model.expert]\nkind = \"patch\"\n"
      "[model.router]\ninput = \"patch_sum\"\ntop_k = 1\n[train]\ngroups = [{ match = \"w\", "
      "lr_scale = 0.5 }]\n");
  for (const auto& entry : fs::directory_iterator(source / "tests" / "golden")) {
    if (entry.path().extension() != ".jsonl") continue;
    const std::string text = read_file(entry.path());
    add("metrics", text.substr(0, text.find('\n') + 1));
  }
}

}  // namespace
}  // namespace moekit::fuzz

int main(int argc, char** argv) try {
  if (argc != 3) {
    std::fprintf(stderr, "usage: fuzz_seeds CORPUS SOURCE\n");
    return 2;
  }
  const std::filesystem::path corpus = argv[1];
  moekit::fuzz::write_tensors(corpus);
  moekit::fuzz::write_traces(corpus);
  moekit::fuzz::write_records(corpus);
  moekit::fuzz::write_run(corpus);
  moekit::fuzz::write_images(corpus);
  moekit::fuzz::write_tokenizers(corpus);
  moekit::fuzz::copy_texts(corpus, argv[2]);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "fuzz_seeds: %s\n", error.what());
  return 1;
}
