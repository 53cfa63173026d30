#include "moekit/metrics/routing_trace.h"

#include <limits>
#include <sstream>
#include <unordered_set>

#include "moekit/checkpoint/memory_tensors.h"
#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/metrics/checks.h"
#include "moekit/nn/top_k.h"

namespace moekit::metrics {
namespace {
constexpr const char* kFormat = "moekit-routing-trace";
constexpr const char* kVersion = "2";
constexpr std::string_view kLabels = "labels.";

constexpr const char* kFirstVersion = "1";
constexpr int64_t kAnySize = -1;
/// Labels are the names of few things: a larger one is a broken file, and would size tables.
constexpr int64_t kMostLabels = int64_t{1} << 31;

/// Reads a trace's tensors, each of them checked before its elements are touched.
class TraceReader {
 public:
  explicit TraceReader(const checkpoint::TensorSource& file) : file_(file) {}

  const std::string& metadata(const std::string& key) const {
    const auto found = file_.metadata().find(key);
    MOEKIT_CHECK_FORMAT(found != file_.metadata().end(), file_.where(), ": metadata lack \"", key,
                        "\"");
    return found->second;
  }
  /// The layers' names: none empty, none twice.
  std::vector<std::string> layer_names() const {
    std::vector<std::string> out;
    std::unordered_set<std::string> seen;
    std::istringstream names(metadata("layers"));
    for (std::string name; std::getline(names, name, ',');) {
      MOEKIT_CHECK_FORMAT(!name.empty(), file_.where(), ": metadata \"layers\" names layer ",
                          out.size(), " \"\"");
      MOEKIT_CHECK_FORMAT(seen.insert(name).second, file_.where(),
                          ": metadata \"layers\" names layer \"", name, "\" twice");
      out.push_back(name);
    }
    return out;
  }
  /// @param shape  `kAnySize` where any will do; `letters` stands for it in messages
  torch::Tensor read(const std::string& name, checkpoint::Dtype dtype,
                     const std::vector<int64_t>& shape, const char* letters) {
    const auto& info = file_.info(name);
    bool fits = info.dtype == dtype && info.shape.size() == shape.size();
    for (size_t d = 0; fits && d < shape.size(); ++d) {
      fits = shape[d] == kAnySize || info.shape[d] == shape[d];
    }
    MOEKIT_CHECK_FORMAT(fits, file_.where(), ": ", name, " must be ", letters, "; got ",
                        c10::IntArrayRef(info.shape), " ", checkpoint::dtype_name(info.dtype));
    read_.insert(name);
    return file_.read(name);
  }
  torch::Tensor read_ids(const std::string& name, const std::vector<int64_t>& shape,
                         const char* letters, int64_t end) {
    auto ids = read(name, checkpoint::Dtype::kI64, shape, letters);
    const std::string fault = id_fault(ids, end);
    MOEKIT_CHECK_FORMAT(fault.empty(), file_.where(), ": ", name, " ", fault);
    return ids;
  }
  torch::Tensor read_numbers(const std::string& name, const std::vector<int64_t>& shape,
                             const char* letters, double least) {
    auto numbers = read(name, checkpoint::Dtype::kF32, shape, letters);
    const std::string fault = number_fault(numbers, least);
    MOEKIT_CHECK_FORMAT(fault.empty(), file_.where(), ": ", name, " ", fault);
    return numbers;
  }
  /// Every layer, and any labels, are of as many tokens.
  void same_tokens(int64_t count, const std::string& name) {
    MOEKIT_CHECK_FORMAT(tokens_ == kAnySize || tokens_ == count, file_.where(), ": ", name, " has ",
                        count, " tokens, others ", tokens_);
    tokens_ = count;
  }
  bool was_read(const std::string& name) const { return read_.count(name) == 1; }
  void refuse_others() const {
    for (const auto& name : file_.names()) {
      MOEKIT_CHECK_FORMAT(was_read(name), file_.where(), ": ", name,
                          " is no tensor of a routing trace");
    }
  }

 private:
  const checkpoint::TensorSource& file_;
  std::unordered_set<std::string> read_;
  int64_t tokens_ = kAnySize;
};

LayerTrace read_layer(TraceReader& in, const std::string& name, bool first_version,
                      const std::string& where) {
  const auto probs = in.read_numbers(name + ".probs", {kAnySize, kAnySize}, "[N, E] F32", 0);
  in.same_tokens(probs.size(0), name + ".probs");
  const int64_t experts = probs.size(1);
  MOEKIT_CHECK_FORMAT(experts >= 1, where, ": ", name, ".probs must be of at least 1 expert; got ",
                      probs.sizes());
  if (first_version) {
    const auto index = in.read_ids(name + ".expert_index", {probs.size(0), kAnySize},
                                   "[N, K] I64 with N of probs", experts);
    return make_layer_trace(name, index, probs);
  }
  const auto token = in.read_ids(name + ".token", {kAnySize}, "[A] I64", probs.size(0));
  const auto expert =
      in.read_ids(name + ".expert", {token.size(0)}, "[A] I64, as many as token", experts);
  return {name, token, expert, probs};
}

void read_expert_outputs(TraceReader& in, RoutingTrace& trace, const std::string& where) {
  const std::string name = "expert_log_probs";
  const auto outputs = in.read_numbers(name, {kAnySize, kAnySize, kAnySize}, "[E, N, C] F32",
                                       -std::numeric_limits<double>::infinity());
  MOEKIT_CHECK_FORMAT(outputs.size(0) >= 1 && outputs.size(2) >= 1, where, ": ", name,
                      " must be of at least 1 expert and 1 class; got ", outputs.sizes());
  in.same_tokens(outputs.size(1), name);
  for (const auto& layer : trace.layers) {
    MOEKIT_CHECK_FORMAT(layer.num_experts() == outputs.size(0), where, ": ", name, " is of ",
                        outputs.size(0), " experts; layer ", layer.name, " has ",
                        layer.num_experts());
  }
  trace.expert_log_probs = outputs;
}

}  // namespace

double LayerTrace::mean_top_k() const {
  return num_tokens() > 0 ? static_cast<double>(expert.size(0)) / static_cast<double>(num_tokens())
                          : 0.0;
}

torch::Tensor LayerTrace::active() const {
  check_ids("LayerTrace " + name, "token", token, num_tokens());
  check_ids("LayerTrace " + name, "expert", expert, num_experts());
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

torch::Tensor LayerTrace::top1() const {
  auto lowest = nn::top1_index(probs);
  const auto index = expert_index();
  if (!index.defined()) return lowest;
  const auto first = index.select(1, 0);
  const auto at = [&](const torch::Tensor& of) { return probs.gather(1, of.unsqueeze(1)); };
  return torch::where(at(first).eq(at(lowest)).squeeze(1), first, lowest);
}

LayerTrace make_layer_trace(std::string name, const torch::Tensor& expert_index,
                            torch::Tensor probs) {
  MOEKIT_CHECK(expert_index.dim() == 2 && probs.dim() == 2 && expert_index.size(0) == probs.size(0),
               "make_layer_trace: ", name, ": expert_index must be [N, K] and probs [N, E]; got ",
               expert_index.sizes(), " and ", probs.sizes());
  const auto token = torch::arange(expert_index.size(0), torch::kLong);
  return {std::move(name), token.unsqueeze(1).expand_as(expert_index).reshape({-1}),
          expert_index.reshape({-1}), std::move(probs)};
}

void TraceRecorder::add(const std::vector<nn::LayerRouting>& layers) {
  MOEKIT_CHECK(layers_.empty() || layers_.size() == layers.size(), "TraceRecorder: ", layers.size(),
               " layers in this batch, ", layers_.size(), " in those before");
  layers_.resize(layers.size());
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& routing = layers[l].routing;
    auto& parts = layers_[l];
    MOEKIT_CHECK(parts.probs.empty() || parts.name == layers[l].name, "TraceRecorder: layer ", l,
                 " is ", layers[l].name, " in this batch, ", parts.name, " in those before");
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
    MOEKIT_CHECK(!layer.name.empty() && layer.name.find(',') == std::string::npos,
                 "write_trace: layer name \"", layer.name, "\" is empty or has a comma");
    names += (names.empty() ? "" : ",") + layer.name;
    file.add(layer.name + ".token", layer.token);
    file.add(layer.name + ".expert", layer.expert);
    file.add(layer.name + ".probs", layer.probs.to(torch::kFloat32));
  }
  for (const auto& [name, values] : trace.labels) {
    file.add(std::string(kLabels) + name, values);
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
  TraceReader in(*file);
  MOEKIT_CHECK_FORMAT(in.metadata("format") == kFormat, where, ": metadata \"format\" is \"",
                      in.metadata("format"), "\"; wanted \"", kFormat, "\"");
  const std::string& version = in.metadata("version");
  MOEKIT_CHECK_FORMAT(version == kFirstVersion || version == kVersion, where,
                      ": metadata \"version\" is \"", version, "\"; wanted ", kFirstVersion, " or ",
                      kVersion);
  RoutingTrace trace;
  for (const auto& name : in.layer_names()) {
    trace.layers.push_back(read_layer(in, name, version == kFirstVersion, where));
  }
  for (const auto& name : file->names()) {
    if (name.rfind(kLabels, 0) != 0 || in.was_read(name)) continue;
    const auto labels = in.read_ids(name, {kAnySize}, "[N] I64", kMostLabels);
    in.same_tokens(labels.size(0), name);
    trace.labels[name.substr(kLabels.size())] = labels;
  }
  if (file->contains("expert_log_probs")) read_expert_outputs(in, trace, where);
  in.refuse_others();
  return trace;
}

}  // namespace moekit::metrics
