#include "moekit/published/inventory.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <unordered_set>

#include "moekit/core/error.h"

namespace moekit::published {
namespace {

using checkpoint::TensorSource;

int64_t count_of(const std::vector<int64_t>& shape, const std::string& where) {
  int64_t count = 1;
  for (const auto size : shape) {
    MOEKIT_CHECK_FORMAT(size == 0 || count <= (int64_t{1} << 53) / size, where, ": a tensor of [",
                        fmt::format("{}", fmt::join(shape, ", ")), "] values, more than 2^53");
    count *= size;
  }
  return count;
}

class Lister {
 public:
  Lister(const Architecture& architecture, size_t storage)
      : architecture_(architecture), storage_(storage) {}

  std::vector<ExpectedTensor> list() {
    check_number();
    add(architecture_.embedding, Part::kEmbedding);
    for (size_t l = 0; l < architecture_.blocks.size(); ++l) {
      layer_ = static_cast<int64_t>(l);
      prefix_ = architecture_.layer_prefix + std::to_string(l) + ".";
      add(architecture_.blocks[l]);
    }
    layer_ = -1;
    prefix_.clear();
    add(architecture_.norms, Part::kNorm);
    add(architecture_.head, Part::kHead);
    return std::move(out_);
  }

 private:
  /// A hostile config may ask for more names than memory has room for.
  void check_number() const {
    constexpr int64_t kMostTensors = 10'000'000;
    int64_t count = 0;
    for (const auto& block : architecture_.blocks) {
      if (!block.mixture) continue;
      count += 3 * block.mixture->num_experts;
      MOEKIT_CHECK_FORMAT(count <= kMostTensors, architecture_.where, ": ",
                          architecture_.blocks.size(), " layers of ", block.mixture->num_experts,
                          " experts are more than ", kMostTensors, " tensors");
    }
  }

  void add(const BlockPart& block) {
    for (const auto& attention : block.attention) add(attention.tensors, Part::kAttention);
    add(block.norms, Part::kNorm);
    add(block.dense, Part::kDense);
    if (!block.mixture) return;
    const auto& mixture = *block.mixture;
    const auto& storage = mixture.storages[std::min(storage_, mixture.storages.size() - 1)];
    add(storage.router, Part::kRouter);
    for (int64_t e = 0; e < mixture.num_experts; ++e) {
      for (const auto& tensor : storage.each) {
        add({name_of_expert(tensor.name, e), tensor.shape}, Part::kExperts, 1);
      }
    }
    for (const auto& tensor : storage.all) {
      add(tensor, Part::kExperts, storage.codes_each, storage.codes_each > 1 ? 1 : 0);
    }
    for (const auto& tensor : storage.biases) {
      add(tensor, Part::kExperts, 1);
      out_.back().bias = true;
    }
    for (const auto& tensor : storage.scales) add(tensor, Part::kExperts, 0, 1);
    add(mixture.shared, Part::kShared);
  }

  void add(const std::vector<NamedShape>& tensors, Part part) {
    for (const auto& tensor : tensors) add(tensor, part, 1);
  }

  void add(const NamedShape& tensor, Part part, int64_t codes_each, uint64_t element_bytes = 0) {
    out_.push_back(
        {prefix_ + tensor.name, tensor.shape, part, layer_, codes_each, false, element_bytes});
    // FP8 is of the maps' matrices alone: not the router's, norms, embedding and head.
    const bool map = part == Part::kAttention || part == Part::kExperts || part == Part::kShared ||
                     part == Part::kDense;
    if (architecture_.quantization != "fp8" || !map || tensor.shape.size() != 2) return;
    out_.back().element_bytes = 1;
    const auto pieces = [](int64_t size, int64_t each) { return (size + each - 1) / each; };
    out_.push_back({prefix_ + tensor.name + "_scale_inv",
                    {pieces(tensor.shape[0], architecture_.scale_rows),
                     pieces(tensor.shape[1], architecture_.scale_columns)},
                    part,
                    layer_,
                    0,
                    false,
                    4});
  }

  const Architecture& architecture_;
  size_t storage_;
  int64_t layer_ = -1;
  std::string prefix_;
  std::vector<ExpectedTensor> out_;
};

std::string find_wrapper(const Architecture& architecture, const TensorSource& tensors) {
  for (const char* wrapper : {"", "language_model.", "model.language_model."}) {
    if (tensors.contains(FileLayout{wrapper}.name(architecture.embedding.front().name))) {
      return wrapper;
    }
  }
  return "";
}

/// The first storage of which a tensor is there.
size_t find_storage(const Architecture& architecture, const std::string& wrapper,
                    const TensorSource* tensors) {
  if (tensors == nullptr) return 0;
  for (size_t l = 0; l < architecture.blocks.size(); ++l) {
    const auto& mixture = architecture.blocks[l].mixture;
    if (!mixture) continue;
    const auto prefix = fmt::format("{}{}.", architecture.layer_prefix, l);
    for (size_t s = 0; s < mixture->storages.size(); ++s) {
      const auto& storage = mixture->storages[s];
      const auto& first = storage.each.empty() ? storage.all.front() : storage.each.front();
      if (tensors->contains(FileLayout{wrapper}.name(prefix + name_of_expert(first.name, 0))))
        return s;
    }
  }
  return 0;
}

uint64_t bytes_of_dtype(const std::string& dtype) {
  return dtype == "float32" ? 4 : 2;  // float16, bfloat16, or nothing said
}

/// Tensors that a model has beside what runs: layers behind the last (further token predictions),
/// positions that older files keep, and with a wrapper all that is outside of it.
bool is_not_used(const std::string& name, const Architecture& architecture,
                 const std::string& wrapper) {
  const auto prefix = FileLayout{wrapper}.name(architecture.layer_prefix);
  if (name.rfind(prefix, 0) == 0) {
    const char* begin = name.data() + prefix.size();
    int64_t layer = 0;
    const auto [end, error] = std::from_chars(begin, name.data() + name.size(), layer);
    const bool number = error == std::errc() && *end == '.';
    if (number && layer >= static_cast<int64_t>(architecture.blocks.size())) return true;
    constexpr std::string_view kPositions = "rotary_emb.inv_freq";
    return name.size() > kPositions.size() &&
           name.compare(name.size() - kPositions.size(), kPositions.size(), kPositions) == 0;
  }
  return !wrapper.empty() && name.rfind(wrapper, 0) != 0;
}

/// A scale that is not wanted: its matrix was left in floats.
bool is_scale_of_wide(const Architecture& architecture, const std::string& name,
                      const TensorSource& tensors) {
  constexpr std::string_view kSuffix = "_scale_inv";
  if (architecture.quantization != "fp8" || name.size() <= kSuffix.size()) return false;
  const auto end = name.size() - kSuffix.size();
  if (name.compare(end, kSuffix.size(), kSuffix) != 0) return false;
  const auto matrix = name.substr(0, end);
  return tensors.contains(matrix) && tensors.info(matrix).dtype != checkpoint::Dtype::kF8E4M3;
}

struct Totals {
  Totals(Inventory& inventory, const std::string& config) : out(inventory), where(config) {}
  void add(const ExpectedTensor& tensor, uint64_t bytes, std::string_view dtype) {
    auto& part = parts[tensor.part];
    part.part = tensor.part;
    ++part.tensors;
    const auto parameters = count_of(tensor.shape, where) * tensor.codes_each;
    part.parameters += parameters;
    part.bytes += bytes;
    if (!dtype.empty() &&
        std::find(part.dtypes.begin(), part.dtypes.end(), dtype) == part.dtypes.end()) {
      part.dtypes.emplace_back(dtype);
    }
    out.parameters += parameters;
    out.bytes += bytes;
    if (tensor.part == Part::kExperts && !tensor.bias) {
      out.routed_parameters += parameters;
      routed_of_layer[tensor.layer] += parameters;
    }
  }
  Inventory& out;
  const std::string& where;
  std::map<Part, PartTotals> parts;
  std::map<int64_t, int64_t> routed_of_layer;
};

}  // namespace

std::string_view part_name(Part part) {
  constexpr std::array<std::string_view, 8> kNames{"embedding", "attention", "routers", "experts",
                                                   "shared",    "dense",     "norms",   "head"};
  return kNames.at(static_cast<size_t>(part));
}

std::string name_of_expert(const std::string& name, int64_t expert) {
  const auto at = name.find("{e}");
  return at == std::string::npos
             ? name
             : name.substr(0, at) + std::to_string(expert) + name.substr(at + 3);
}

std::string FileLayout::name(const std::string& tensor) const {
  constexpr std::string_view kModel = "model.";
  // "model.layers..." becomes "model.language_model.layers...", and the head stays.
  if (wrapper != "model.language_model.") return wrapper + tensor;
  return tensor.rfind(kModel, 0) == 0 ? wrapper + tensor.substr(kModel.size()) : tensor;
}

FileLayout find_layout(const Architecture& architecture, const TensorSource* tensors) {
  if (tensors == nullptr) return {};
  const auto wrapper = find_wrapper(architecture, *tensors);
  return {wrapper, find_storage(architecture, wrapper, tensors)};
}

std::vector<ExpectedTensor> expected_tensors(const Architecture& architecture, size_t storage) {
  return Lister(architecture, storage).list();
}

std::string header_fault(const Architecture& architecture, const ExpectedTensor& tensor,
                         const checkpoint::TensorInfo& info) {
  using checkpoint::Dtype;
  if (info.shape != tensor.shape) {
    return fmt::format("is [{}], not [{}]", fmt::join(info.shape, ", "),
                       fmt::join(tensor.shape, ", "));
  }
  const bool float_kind = info.dtype == Dtype::kF32 || info.dtype == Dtype::kBF16 ||
                          info.dtype == Dtype::kF16 || info.dtype == Dtype::kF64;
  const bool codes = architecture.quantization == "mxfp4" && tensor.element_bytes == 1;
  // FP8 beside the config's scales; a matrix of such a model may have been left wide.
  const bool fp8 = architecture.quantization == "fp8" && tensor.element_bytes == 1 &&
                   info.dtype == Dtype::kF8E4M3;
  if (codes ? info.dtype == Dtype::kU8 : float_kind || fp8) return {};
  return fmt::format("is {}, not {}", checkpoint::dtype_name(info.dtype),
                     codes ? "bytes of codes" : "floats");
}

Inventory check_inventory(const Architecture& architecture, const TensorSource& tensors) {
  Inventory inventory = take_inventory(architecture, &tensors);
  const auto refuse = [&](const std::vector<std::string>& names, const char* what) {
    constexpr size_t kShown = 3;
    if (names.empty()) return;
    std::string shown;
    for (size_t i = 0; i < std::min(kShown, names.size()); ++i) {
      shown += (i == 0 ? "" : "; ") + names[i];
    }
    if (names.size() > kShown) shown += fmt::format("; and {} more", names.size() - kShown);
    throw FormatError(
        fmt::format("{}: {} by {}: {}", tensors.where(), what, architecture.where, shown));
  };
  refuse(inventory.misshapen, "tensors are not as wanted");
  refuse(inventory.missing, "tensors are missing that are wanted");
  return inventory;
}

Inventory take_inventory(const Architecture& architecture, const TensorSource* tensors) {
  Inventory out;
  const FileLayout layout = find_layout(architecture, tensors);
  const auto expected = expected_tensors(architecture, layout.storage);
  for (const auto& block : architecture.blocks) {
    if (!block.mixture) continue;
    const auto& storages = block.mixture->storages;
    out.storage = storages[std::min(layout.storage, storages.size() - 1)].kind;
    break;
  }
  Totals totals(out, architecture.where);
  std::unordered_set<std::string> known;
  for (const auto& tensor : expected) {
    if (tensors == nullptr) {
      const auto count = static_cast<uint64_t>(count_of(tensor.shape, architecture.where));
      const auto each =
          tensor.element_bytes > 0 ? tensor.element_bytes : bytes_of_dtype(architecture.dtype);
      totals.add(tensor, count * each, "");
      continue;
    }
    const auto name = layout.name(tensor.name);
    known.insert(name);
    if (!tensors->contains(name) && is_scale_of_wide(architecture, name, *tensors)) continue;
    if (!tensors->contains(name)) {
      out.missing.push_back(name);
      totals.add(tensor, 0, "");
      continue;
    }
    const auto& info = tensors->info(name);
    const auto fault = header_fault(architecture, tensor, info);
    if (!fault.empty()) out.misshapen.push_back(fmt::format("{} {}", name, fault));
    totals.add(tensor, info.bytes, checkpoint::dtype_name(info.dtype));
  }
  if (tensors != nullptr) {
    for (const auto& name : tensors->names()) {
      if (known.count(name) != 0) continue;
      (is_not_used(name, architecture, layout.wrapper) ? out.not_used : out.unknown)
          .push_back(name);
    }
  }
  for (auto& [part, sums] : totals.parts) out.parts.push_back(std::move(sums));
  out.active_parameters = out.parameters;
  for (const auto& [layer, parameters] : totals.routed_of_layer) {
    const auto& mixture = *architecture.blocks[static_cast<size_t>(layer)].mixture;
    const auto idle = std::max<int64_t>(mixture.num_experts - mixture.top_k, 0);
    out.active_parameters -= parameters / mixture.num_experts * idle;
  }
  return out;
}

}  // namespace moekit::published
