#include "moekit/checkpoint/sharded.h"

#include "moekit/checkpoint/strict_json.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::checkpoint {
namespace {

constexpr size_t kIndexDepth = 16;  // keys that are passed over may hold anything

bool is_plain_file_name(std::string_view name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

class ShardedTensors::IndexReader : public StrictJson {
 public:
  IndexReader(const std::filesystem::path& path, ShardedTensors& out)
      : StrictJson(path.string(), kIndexDepth), folder_(path.parent_path()), out_(out) {
    parse(read_file(path, kMaxHeaderBytes));
    MOEKIT_CHECK_FORMAT(map_seen_, where(), ": lacks \"weight_map\"");
  }

 private:
  bool in(const char* key) const { return depth() > 0 && key_at(0) == key; }

  void on_start(bool object) override {
    if (depth() == 0 && !object) refuse("the index must be a JSON object");
    if (!in("weight_map")) return;
    if (depth() > 1 || !object) refuse("must be an object of file names");
    map_seen_ = true;
  }

  void on_scalar(Json value) override {
    if (depth() == 0) refuse("the index must be a JSON object");
    if (in("weight_map")) {
      if (depth() != 2 || !value.is_string()) refuse("must be an object of file names");
      assign(key_at(1), value.get_ref<const std::string&>());
    } else if (in("metadata") && depth() == 2) {
      out_.metadata_[key_at(1)] = value.is_string() ? value.get<std::string>() : value.dump();
    }
  }

  void assign(const std::string& tensor, const std::string& file) {
    if (!is_plain_file_name(file)) {
      refuse(concat(Json(file).dump(), " must name a file in the same folder"));
    }
    const size_t shard = out_.shards_.size();
    const size_t known = files_.find(file).value_or(shard);
    if (known == shard) {
      if (!std::filesystem::is_regular_file(folder_ / file, ignored_)) {
        refuse(concat("the folder has no file ", Json(file).dump()));
      }
      files_.add(file);
      out_.shards_.push_back({folder_ / file, {}, nullptr});
    }
    out_.shards_[known].tensors.push_back(out_.names().size());
    out_.shard_of_.push_back(known);
    out_.index_.add(tensor);  // is new: no object has a key twice
  }

  std::filesystem::path folder_;
  ShardedTensors& out_;
  NameIndex files_;
  std::error_code ignored_;
  bool map_seen_ = false;
};

ShardedTensors::ShardedTensors(const std::filesystem::path& index) : where_(index.string()) {
  IndexReader(index, *this);
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
