#include "moekit/metrics/routing_trace.h"

#include <sstream>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"

namespace moekit::metrics {
namespace {
constexpr const char* kFormat = "moekit-routing-trace";
constexpr const char* kVersion = "2";

/// Assignments as version 1 has them: K experts a token.
LayerTrace from_index(const std::string& name, const torch::Tensor& index, torch::Tensor probs,
                      const std::string& where) {
  MOEKIT_CHECK_FORMAT(index.dim() == 2 && index.scalar_type() == torch::kLong, where, ": ", name,
                      ".expert_index must be [N, K] I64");
  return make_layer_trace(name, index, std::move(probs));
}

void check_layer(const LayerTrace& layer, const std::string& where) {
  const auto is_list = [](const torch::Tensor& t) {
    return t.dim() == 1 && t.scalar_type() == torch::kLong;
  };
  MOEKIT_CHECK_FORMAT(is_list(layer.token) && is_list(layer.expert) &&
                          layer.token.size(0) == layer.expert.size(0) && layer.probs.dim() == 2 &&
                          layer.probs.scalar_type() == torch::kFloat32,
                      where, ": ", layer.name,
                      " must have token and expert [A] I64 and probs [N, E] F32");
  const auto in_range = [&](const char* what, const torch::Tensor& values, int64_t end) {
    if (values.numel() == 0) return;
    const auto low = values.min().item<int64_t>();
    const auto high = values.max().item<int64_t>();
    MOEKIT_CHECK_FORMAT(low >= 0 && high < end, where, ": ", layer.name, ".", what, " has ",
                        low < 0 ? low : high, "; wanted 0..", end - 1);
  };
  in_range("token", layer.token, layer.num_tokens());
  in_range("expert", layer.expert, layer.num_experts());
}

}  // namespace

double LayerTrace::mean_top_k() const {
  return num_tokens() > 0 ? static_cast<double>(expert.size(0)) / static_cast<double>(num_tokens())
                          : 0.0;
}

torch::Tensor LayerTrace::active() const {
  auto out = torch::zeros({num_tokens(), num_experts()}, torch::kBool);
  return out.index_put_({token, expert}, torch::ones({expert.size(0)}, torch::kBool));
}

torch::Tensor LayerTrace::expert_index() const {
  const int64_t tokens = num_tokens();
  if (tokens == 0 || expert.size(0) % tokens != 0) return {};
  const int64_t k = expert.size(0) / tokens;
  const auto in_order = torch::arange(tokens, torch::kLong).unsqueeze(1).expand({tokens, k});
  const auto is_index = k > 0 && torch::equal(token.view({tokens, k}), in_order);
  return is_index ? expert.view({tokens, k}) : torch::Tensor();
}

LayerTrace make_layer_trace(std::string name, const torch::Tensor& expert_index,
                            torch::Tensor probs) {
  const auto token = torch::arange(expert_index.size(0), torch::kLong);
  return {std::move(name), token.unsqueeze(1).expand_as(expert_index).reshape({-1}),
          expert_index.reshape({-1}), std::move(probs)};
}

void TraceRecorder::add(const std::vector<nn::LayerRouting>& layers) {
  layers_.resize(layers.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& routing = layers[l].routing;
    auto& parts = layers_[l];
    parts.name = layers[l].name;
    const auto trace =
        routing.takes_all
            ? make_layer_trace("", nn::top1_expert(routing).unsqueeze(1), routing.probs)
            : LayerTrace{"", routing.token, routing.expert, routing.probs};
    parts.token.push_back(trace.token + parts.num_tokens);
    parts.expert.push_back(trace.expert);
    parts.probs.push_back(trace.probs);
    parts.num_tokens += trace.num_tokens();
  }
}

std::vector<LayerTrace> TraceRecorder::finish() const {
  std::vector<LayerTrace> out;
  for (const auto& parts : layers_) {
    out.push_back(
        {parts.name, torch::cat(parts.token), torch::cat(parts.expert), torch::cat(parts.probs)});
  }
  return out;
}

void write_trace(const std::filesystem::path& path, const RoutingTrace& trace) {
  checkpoint::MemoryTensors file;
  std::string names;
  for (const auto& layer : trace.layers) {
    MOEKIT_CHECK(layer.name.find(',') == std::string::npos, "write_trace: layer name \"",
                 layer.name, "\" has a comma");
    names += (names.empty() ? "" : ",") + layer.name;
    file.add(layer.name + ".token", layer.token);
    file.add(layer.name + ".expert", layer.expert);
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
  const bool first_version = meta("version") == "1";
  MOEKIT_CHECK_FORMAT(meta("format") == kFormat && (first_version || meta("version") == kVersion),
                      where, ": is no routing trace of version 1 or ", kVersion);
  RoutingTrace trace;
  int64_t tokens = -1;
  const auto same_tokens = [&](int64_t count, const std::string& name) {
    MOEKIT_CHECK_FORMAT(tokens < 0 || tokens == count, where, ": ", name, " has ", count,
                        " tokens, others ", tokens);
    tokens = count;
  };
  std::istringstream names(meta("layers"));
  for (std::string name; std::getline(names, name, ',');) {
    const auto probs = file->read(name + ".probs");
    auto layer = first_version ? from_index(name, file->read(name + ".expert_index"), probs, where)
                               : LayerTrace{name, file->read(name + ".token"),
                                            file->read(name + ".expert"), probs};
    check_layer(layer, where);
    same_tokens(layer.num_tokens(), name + ".probs");
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
