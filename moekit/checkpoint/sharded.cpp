#include "moekit/checkpoint/sharded.h"

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/json_text.h"

namespace moekit::checkpoint {
namespace {

namespace dom = simdjson::dom;

constexpr size_t kIndexDepth = 16;  // keys that are passed over may hold anything

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

class ShardedTensors::IndexReader {
 public:
  IndexReader(const std::filesystem::path& path, ShardedTensors& out)
      : folder_(path.parent_path()), out_(out) {}

  void read(std::string_view text) {
    JsonText document;
    const auto root = document.parse(text, out_.where_, kIndexDepth);
    MOEKIT_CHECK_FORMAT(root.is_object(), out_.where_, ": the index must be a JSON object");
    dom::element value;
    if (root["metadata"].get(value) == simdjson::SUCCESS && value.is_object()) {
      read_metadata(value_of<dom::object>(value));
    }
    MOEKIT_CHECK_FORMAT(root["weight_map"].get(value) == simdjson::SUCCESS, out_.where_,
                        ": lacks \"weight_map\"");
    MOEKIT_CHECK_FORMAT(value.is_object(), out_.where_,
                        ": \"weight_map\": must be an object of file names");
    const dom::object map = value_of<dom::object>(value);
    out_.index_.reserve(map.size());
    for (const auto [tensor, file] : map) {
      if (!file.is_string()) refuse(tensor, "must be the name of a file");
      assign(tensor, std::string(value_of<std::string_view>(file)));
    }
  }

 private:
  void read_metadata(const dom::object& metadata) {
    for (const auto [key, value] : metadata) {
      if (value.is_string()) {
        out_.metadata_.emplace(key, value_of<std::string_view>(value));
      } else if (!value.is_object() && !value.is_array()) {
        out_.metadata_.emplace(key, simdjson::minify(value));
      }
    }
  }

  void assign(std::string_view tensor, const std::string& file) {
    if (!is_plain_file_name(file)) {
      refuse(tensor, concat(in_quotes(file), " must name a file in the same folder"));
    }
    const size_t shard = out_.shards_.size();
    const size_t known = files_.find(file).value_or(shard);
    if (known == shard) {
      if (!std::filesystem::is_regular_file(folder_ / file, ignored_)) {
        refuse(tensor, concat("the folder has no file ", in_quotes(file)));
      }
      files_.add(file);
      out_.shards_.push_back({folder_ / file, {}, nullptr});
    }
    out_.shards_[known].tensors.push_back(out_.names().size());
    out_.shard_of_.push_back(known);
    out_.index_.add(std::string(tensor));  // is new: no object has a key twice
  }

  [[noreturn]] void refuse(std::string_view tensor, std::string_view wanted) const {
    throw FormatError(
        concat(out_.where_, ": ", in_quotes(concat("weight_map.", tensor)), ": ", wanted));
  }

  std::filesystem::path folder_;
  ShardedTensors& out_;
  NameIndex files_;
  std::error_code ignored_;
};

ShardedTensors::ShardedTensors(const std::filesystem::path& index) : where_(index.string()) {
  IndexReader(index, *this).read(read_file(index, kMaxHeaderBytes));
}

const MappedTensors& ShardedTensors::shard_of(std::string_view name) const {
  Shard& shard = shards_[shard_of_[index_.position(name, where_)]];
  const std::lock_guard lock(opening_);
  if (shard.contents == nullptr) {
    auto contents = std::make_unique<MappedTensors>(shard.path);
    check_shard(shard, *contents);
    shard.contents = std::move(contents);
  }
  return *shard.contents;
}

void ShardedTensors::check_shard(const Shard& shard, const MappedTensors& contents) const {
  for (const size_t position : shard.tensors) {
    const auto& name = names()[position];
    MOEKIT_CHECK_FORMAT(contents.contains(name), contents.where(), ": lacks tensor \"", name,
                        "\", which ", where_, " puts there");
  }
  for (const auto& name : contents.names()) {
    const auto position = index_.find(name);
    MOEKIT_CHECK_FORMAT(position, contents.where(), ": tensor \"", name, "\" is not in ", where_);
    const Shard& owner = shards_[shard_of_[*position]];
    MOEKIT_CHECK_FORMAT(&owner == &shard, contents.where(), ": holds tensor \"", name, "\", which ",
                        where_, " puts into ", owner.path.filename().string());
  }
}

const TensorInfo& ShardedTensors::info(std::string_view name) const {
  return shard_of(name).info(name);
}

torch::Tensor ShardedTensors::read_codes(std::string_view name) const {
  return shard_of(name).read_codes(name);
}

std::unique_ptr<TensorSource> open_tensors(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (path.extension() == ".json") return std::make_unique<ShardedTensors>(path);
  std::error_code error;
  if (!fs::is_directory(path, error)) return std::make_unique<MappedTensors>(path);
  const fs::path file = path / "model.safetensors";
  if (fs::exists(file, error)) return std::make_unique<MappedTensors>(file);
  const fs::path index = path / "model.safetensors.index.json";
  if (fs::exists(index, error)) return std::make_unique<ShardedTensors>(index);
  throw IoError(concat("folder ", path.string(),
                       " has neither model.safetensors nor model.safetensors.index.json"));
}

}  // namespace moekit::checkpoint
