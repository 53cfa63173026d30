#include "moekit/metrics/routing_trace.h"

#include <sstream>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {
constexpr const char* kFormat = "moekit-routing-trace";
constexpr const char* kVersion = "1";
}  // namespace

void write_trace(const std::filesystem::path& path, const RoutingTrace& trace) {
  checkpoint::MemoryTensors file;
  std::string names;
  for (const auto& layer : trace.layers) {
    MOEKIT_CHECK(layer.name.find(',') == std::string::npos, "write_trace: layer name \"",
                 layer.name, "\" has a comma");
    names += (names.empty() ? "" : ",") + layer.name;
    file.add(layer.name + ".expert_index", layer.expert_index);
    file.add(layer.name + ".probs", layer.probs.to(torch::kFloat32));
  }
  for (const auto& [name, values] : trace.labels) {
    file.add("labels." + name, values);
  }
  if (trace.expert_log_probs.defined()) {
    file.add("expert_log_probs", trace.expert_log_probs.to(torch::kFloat32));
  }
  file.set_metadata({{"format", kFormat}, {"version", kVersion}, {"layers", names}});
  checkpoint::write_safetensors(path, file);
}

RoutingTrace read_trace(const std::filesystem::path& path) {
  const auto file = checkpoint::open_tensors(path);
  const std::string where = path.string();
  const auto meta = [&](const char* key) {
    const auto found = file->metadata().find(key);
    MOEKIT_CHECK_FORMAT(found != file->metadata().end(), where, ": metadata lack \"", key, "\"");
    return found->second;
  };
  MOEKIT_CHECK_FORMAT(meta("format") == kFormat && meta("version") == kVersion, where,
                      ": is no routing trace of version ", kVersion);
  RoutingTrace trace;
  int64_t tokens = -1;
  const auto same_tokens = [&](int64_t count, const std::string& name) {
    MOEKIT_CHECK_FORMAT(tokens < 0 || tokens == count, where, ": ", name, " has ", count,
                        " tokens, others ", tokens);
    tokens = count;
  };
  std::istringstream names(meta("layers"));
  for (std::string name; std::getline(names, name, ',');) {
    LayerTrace layer{name, file->read(name + ".expert_index"), file->read(name + ".probs")};
    MOEKIT_CHECK_FORMAT(layer.expert_index.dim() == 2 && layer.probs.dim() == 2 &&
                            layer.expert_index.scalar_type() == torch::kLong &&
                            layer.probs.scalar_type() == torch::kFloat32,
                        where, ": ", name, " must have expert_index [N, K] I64 and probs [N, E]");
    same_tokens(layer.expert_index.size(0), name + ".expert_index");
    same_tokens(layer.probs.size(0), name + ".probs");
    MOEKIT_CHECK_FORMAT(layer.expert_index.numel() == 0 ||
                            (layer.expert_index.min().item<int64_t>() >= 0 &&
                             layer.expert_index.max().item<int64_t>() < layer.num_experts()),
                        where, ": ", name, ".expert_index leaves 0..", layer.num_experts() - 1);
    trace.layers.push_back(std::move(layer));
  }
  for (const auto& name : file->names()) {
    if (name.rfind("labels.", 0) != 0) continue;
    const auto tensor = file->read(name);
    MOEKIT_CHECK_FORMAT(tensor.dim() == 1 && tensor.scalar_type() == torch::kLong &&
                            (tensor.numel() == 0 || tensor.min().item<int64_t>() >= 0),
                        where, ": ", name, " must be [N] I64, from 0");
    same_tokens(tensor.size(0), name);
    trace.labels[name.substr(7)] = tensor;
  }
  if (file->contains("expert_log_probs")) {
    trace.expert_log_probs = file->read("expert_log_probs");
    MOEKIT_CHECK_FORMAT(trace.expert_log_probs.dim() == 3, where,
                        ": expert_log_probs must be [E, N, C]");
    same_tokens(trace.expert_log_probs.size(1), "expert_log_probs");
  }
  return trace;
}

}  // namespace moekit::metrics
