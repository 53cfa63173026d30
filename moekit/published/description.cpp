#include "moekit/published/description.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/core/memory.h"
#include "moekit/kernels/ffn/weight_format.h"
#include "moekit/published/families.h"
#include "moekit/published/inventory.h"

namespace moekit::published {
namespace {

namespace fs = std::filesystem;

std::string attention_words(const AttentionPart& of) {
  if (!of.softmax) return of.kind + ", which moekit does not run";
  std::string out = fmt::format("{}: {} heads of {}", of.kind, of.heads, of.key_size);
  if (of.value_size != of.key_size) out += fmt::format(" (values {})", of.value_size);
  if (of.kv_heads != of.heads) out += fmt::format(" over {} of keys and values", of.kv_heads);
  if (of.window > 0) out += fmt::format(", the last {} tokens", of.window);
  if (of.chunk > 0) out += fmt::format(", chunks of {} tokens", of.chunk);
  if (of.sinks) out += ", a sink a head";
  if (of.gated) out += ", gated outputs";
  if (!of.rotary) return out + ", no positions";
  const auto& rotary = *of.rotary;
  const auto size = of.kind == "latent" ? rotary.channels : of.key_size;
  out += fmt::format(", rotary positions of theta {:g}", rotary.theta);
  if (rotary.channels != size) out += fmt::format(" on {} of {}", rotary.channels, size);
  if (rotary.interleaved) out += ", in pairs of neighbours";
  if (rotary.scaling != "default") out += ", scaled: " + rotary.scaling;
  return out;
}

Json mixture_json(const MixturePart& of, int64_t hidden_size) {
  Json out;
  out["experts"] = of.num_experts;
  if (of.num_identity > 0) out["identity_experts"] = of.num_identity;
  out["top_k"] = of.top_k;
  out["width"] = of.width;
  out["activation"] = of.activation;
  out["router"] = router_words(of.rule, of.num_experts + of.num_identity, of.top_k);
  out["shared_width"] = of.shared_width;
  if (of.shared_gate) out["shared_gate"] = true;
  out["parameters_an_expert"] = 3 * of.width * hidden_size;
  return out;
}

/// "0-3, 5": numbers in order.
std::string ranges(const std::vector<int64_t>& numbers) {
  std::string out;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    out += fmt::format("{}{}", out.empty() ? "" : ", ", numbers[i]);
    if (end > i) out += fmt::format("-{}", numbers[end]);
    i = end + 1;
  }
  return out;
}

/// Layers with equal values, in the order of their first.
class ByValue {
 public:
  void add(const Json& value, int64_t layer) {
    auto at = std::find_if(rows_.begin(), rows_.end(),
                           [&](const auto& row) { return row.first == value; });
    if (at == rows_.end()) at = rows_.emplace(at, value, std::vector<int64_t>());
    at->second.push_back(layer);
  }
  Json json() const {
    Json out = Json::array();
    for (const auto& [value, layers] : rows_) {
      Json row;
      row["layers"] = ranges(layers);
      row["count"] = layers.size();
      row.update(value);
      out.push_back(std::move(row));
    }
    return out;
  }

 private:
  std::vector<std::pair<Json, std::vector<int64_t>>> rows_;
};

void describe_layers(const Architecture& architecture, Json& out) {
  ByValue attention;
  ByValue mixtures;
  ByValue dense;
  Json not_run = Json::array();
  for (size_t l = 0; l < architecture.blocks.size(); ++l) {
    const auto layer = static_cast<int64_t>(l);
    const auto& block = architecture.blocks[l];
    for (const auto& part : block.attention) {
      attention.add({{"kind", attention_words(part)}}, layer);
      if (!part.softmax) not_run.push_back({{"layer", layer}, {"kind", part.kind}});
      if (block.attention.size() > 1) break;  // two alike
    }
    if (block.mixture) mixtures.add(mixture_json(*block.mixture, architecture.hidden_size), layer);
    if (block.dense_width > 0) dense.add({{"width", block.dense_width}}, layer);
  }
  out["attention"] = attention.json();
  out["mixtures"] = mixtures.json();
  out["dense"] = dense.json();
  out["not_run"] = std::move(not_run);
}

Json memory_json(const Inventory& inventory) {
  Json out;
  const auto free = available_memory();
  out["available"] = free;
  out["formats"] = Json::array();
  const auto rest = inventory.parameters - inventory.routed_parameters;
  for (const auto& format : kernels::weight_formats()) {
    const bool whole = format.format == kernels::WeightFormat::kF32;
    const double bytes =
        static_cast<double>(inventory.routed_parameters) * format.bits_per_weight / 8 +
        static_cast<double>(rest) * (whole ? 4 : 2);
    Json row;
    row["experts"] = format.name;
    row["bytes"] = static_cast<uint64_t>(bytes);
    row["fits"] = bytes <= static_cast<double>(free);
    out["formats"].push_back(std::move(row));
  }
  return out;
}

std::string billions(int64_t count) {
  const auto value = static_cast<double>(count);
  if (value >= 1e9) return fmt::format("{:.1f} B", value / 1e9);
  if (value >= 1e6) return fmt::format("{:.1f} M", value / 1e6);
  return fmt::format("{}", count);
}

std::string gigabytes(double bytes) {
  if (bytes >= 1e9) return fmt::format("{:.2f} GB", bytes / 1e9);
  if (bytes >= 1e6) return fmt::format("{:.2f} MB", bytes / 1e6);
  return fmt::format("{:.0f} bytes", bytes);
}

void list_names(std::string& out, const Json& tensors, const char* key, const char* title) {
  constexpr size_t kShown = 8;
  const auto& names = tensors[key];
  if (names.empty()) return;
  out += fmt::format("{}: {}\n", title, names.size());
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) {
    out += fmt::format("  {}\n", names[i].get<std::string>());
  }
  if (names.size() > kShown) out += fmt::format("  and {} more\n", names.size() - kShown);
}

}  // namespace

Json describe_model(const fs::path& path) {
  const Architecture architecture = read_architecture(path);
  std::unique_ptr<checkpoint::TensorSource> tensors;
  const bool weights =
      fs::is_directory(path) &&
      (fs::exists(path / "model.safetensors") || fs::exists(path / "model.safetensors.index.json"));
  if (weights) tensors = checkpoint::open_tensors(path);
  const Inventory inventory = take_inventory(architecture, tensors.get());
  Json out;
  out["family"] = architecture.family;
  out["config"] = architecture.where;
  out["layers"] = architecture.blocks.size();
  out["hidden_size"] = architecture.hidden_size;
  out["vocabulary_size"] = architecture.vocabulary_size;
  if (architecture.context > 0) out["context"] = architecture.context;
  out["tied_embeddings"] = architecture.tied_embeddings;
  if (!architecture.quantization.empty()) out["quantization"] = architecture.quantization;
  out["parameters"] = inventory.parameters;
  out["active_parameters"] = inventory.active_parameters;
  describe_layers(architecture, out);
  out["experts_stored"] = inventory.storage;
  out["weights"] = weights;
  out["bytes"] = inventory.bytes;
  out["parts"] = Json::array();
  for (const auto& part : inventory.parts) {
    out["parts"].push_back({{"part", part_name(part.part)},
                            {"tensors", part.tensors},
                            {"parameters", part.parameters},
                            {"bytes", part.bytes},
                            {"dtypes", part.dtypes}});
  }
  out["tensors"] = {{"missing", inventory.missing},
                    {"unknown", inventory.unknown},
                    {"misshapen", inventory.misshapen},
                    {"not_used", inventory.not_used}};
  out["memory"] = memory_json(inventory);
  return out;
}

std::string description_text(const Json& d) {
  const auto count = [&](const char* key) { return d[key].get<int64_t>(); };
  std::string out = fmt::format(
      "{}: {} layers of {}, vocabulary {}{}\n{} parameters, {} of them active for a token\n",
      d["family"].get<std::string>(), count("layers"), count("hidden_size"),
      count("vocabulary_size"), d["tied_embeddings"].get<bool>() ? ", tied embeddings" : "",
      billions(count("parameters")), billions(count("active_parameters")));
  const auto layers = [](const Json& row) {
    const bool one = row["count"].get<int64_t>() == 1;
    return fmt::format("{} {}", one ? "layer" : "layers", row["layers"].get<std::string>());
  };
  out += "\nattention\n";
  for (const auto& row : d["attention"]) {
    out += fmt::format("  {}: {}\n", layers(row), row["kind"].get<std::string>());
  }
  out += "\nmixtures\n";
  for (const auto& row : d["mixtures"]) {
    out += fmt::format("  {}: {} experts of {} to {}, {} a token", layers(row),
                       row["experts"].get<int64_t>(), count("hidden_size"),
                       row["width"].get<int64_t>(), row["top_k"].get<int64_t>());
    if (row.contains("identity_experts")) {
      out +=
          fmt::format(", and {} that return their input", row["identity_experts"].get<int64_t>());
    }
    if (const auto width = row["shared_width"].get<int64_t>(); width > 0) {
      out += fmt::format("; {} wide runs on every token{}", width,
                         row.contains("shared_gate") ? ", gated" : "");
    }
    out += fmt::format("\n    router: {}\n", row["router"].get<std::string>());
  }
  for (const auto& row : d["dense"]) {
    out += fmt::format("  {}: dense, {} wide\n", layers(row), row["width"].get<int64_t>());
  }
  const bool weights = d["weights"].get<bool>();
  out += fmt::format("\n{}: {}, experts as {}\n", weights ? "files" : "without files",
                     gigabytes(d["bytes"].get<double>()), d["experts_stored"].get<std::string>());
  for (const auto& part : d["parts"]) {
    std::string dtypes;
    for (const auto& dtype : part["dtypes"]) dtypes += " " + dtype.get<std::string>();
    out += fmt::format("  {:10} {:>10} parameters {:>10}{}\n", part["part"].get<std::string>(),
                       billions(part["parameters"].get<int64_t>()),
                       gigabytes(part["bytes"].get<double>()), dtypes);
  }
  const auto& tensors = d["tensors"];
  list_names(out, tensors, "missing", "missing tensors");
  list_names(out, tensors, "misshapen", "tensors of another shape");
  list_names(out, tensors, "unknown", "unknown tensors");
  list_names(out, tensors, "not_used", "tensors that are not used");
  out += fmt::format("\nexperts in, all else bfloat16 (float32 beside f32); {} are free\n",
                     gigabytes(d["memory"]["available"].get<double>()));
  for (const auto& row : d["memory"]["formats"]) {
    out += fmt::format("  {:10} {:>10}  {}\n", row["experts"].get<std::string>(),
                       gigabytes(row["bytes"].get<double>()),
                       row["fits"].get<bool>() ? "fits" : "does not fit");
  }
  return out;
}

}  // namespace moekit::published
