#include "moekit/checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "moekit/checkpoint/strict_json.h"
#include "moekit/core/error.h"

namespace moekit::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr const char* kMetadataKey = "__metadata__";
constexpr size_t kHeaderDepth = 3;  // {"name": {"shape": [

}  // namespace

/// Header text to entries and metadata; knows each entry by itself, not how they lie together.
class MappedTensors::HeaderReader : public StrictJson {
 public:
  HeaderReader(std::string where, std::string_view text, MappedTensors& out)
      : StrictJson(std::move(where), kHeaderDepth), out_(out) {
    parse(text);
  }

 private:
  bool in_metadata() const { return key_at(0) == kMetadataKey; }

  void on_start(bool object) override {
    if (depth() < 2 && !object) unexpected();
    if (depth() == 1) {
      entry_ = {};
      dtype_.reset();
      offsets_.clear();
      shape_seen_ = false;
    }
    if (depth() == 2) {
      const bool shape = key_at(1) == "shape";
      if (in_metadata() || object || !(shape || key_at(1) == "data_offsets")) unexpected();
      shape_seen_ = shape_seen_ || shape;
    }
  }

  void on_scalar(Json value) override {
    if (depth() == 2 && in_metadata() && value.is_string()) {
      out_.metadata_.emplace(key_at(1), std::move(value.get_ref<std::string&>()));
    } else if (depth() == 2 && !in_metadata() && key_at(1) == "dtype" && value.is_string()) {
      dtype_ = parse_dtype(value.get_ref<const std::string&>());
      if (!dtype_) refuse(concat("unknown dtype ", value.dump()));
    } else if (depth() == 3 && value.is_number_unsigned()) {
      add_number(value.get<uint64_t>());
    } else {
      unexpected();
    }
  }

  void add_number(uint64_t number) {
    // No tensor and no file comes near 2^62; a bound here keeps all sums and casts in range.
    if (number > uint64_t{1} << 62) refuse(concat(number, " is too large"));
    if (key_at(1) == "shape") {
      entry_.info.shape.push_back(static_cast<int64_t>(number));
    } else {
      offsets_.push_back(number);
    }
  }

  void on_end() override {
    if (depth() != 1 || in_metadata()) return;
    if (!dtype_ || !shape_seen_ || offsets_.size() != 2) {
      refuse("needs dtype, shape and two data_offsets");
    }
    const auto bytes = tensor_bytes(*dtype_, entry_.info.shape);
    if (!bytes) refuse(concat("shape ", torch::IntArrayRef(entry_.info.shape), " is too large"));
    if (offsets_[0] > offsets_[1] || offsets_[1] - offsets_[0] != *bytes) {
      refuse(concat("data_offsets ", offsets_[0], ", ", offsets_[1], " do not hold ", *bytes,
                    " bytes"));
    }
    entry_.info.name = key_at(0);
    entry_.info.dtype = *dtype_;
    entry_.info.bytes = *bytes;
    entry_.begin = offsets_[0];
    out_.entries_.push_back(std::move(entry_));
  }

  [[noreturn]] void unexpected() const {
    constexpr const char* kWanted[] = {"the header must be a JSON object", "must be an object",
                                       "must be dtype (a string), shape or data_offsets (arrays)",
                                       "must be a list of whole numbers from 0"};
    refuse(in_metadata() && depth() == 2 ? "must be a string" : kWanted[depth()]);
  }

  MappedTensors& out_;
  Entry entry_;
  std::optional<Dtype> dtype_;
  bool shape_seen_ = false;
  std::vector<uint64_t> offsets_;
};

MappedTensors::MappedTensors(const std::filesystem::path& path)
    : where_(path.string()), file_(std::make_shared<MappedFile>(path)) {
  MOEKIT_CHECK_FORMAT(file_->size() >= 8, where_, ": ", file_->size(),
                      " bytes are too short for a safetensors file");
  uint64_t length = 0;
  std::memcpy(&length, file_->data(), 8);
  MOEKIT_CHECK_FORMAT(length <= kMaxHeaderBytes && length <= file_->size() - 8, where_,
                      ": a header of ", length, " bytes does not fit the file of ", file_->size());
  HeaderReader(where_, {file_->data() + 8, length}, *this);
  data_ = file_->data() + 8 + length;
  std::stable_sort(entries_.begin(), entries_.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.info.bytes) < std::pair(b.begin, b.info.bytes);
  });
  const uint64_t size = file_->size() - 8 - length;
  uint64_t next = 0;
  index_.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    MOEKIT_CHECK_FORMAT(entry.begin == next && entry.info.bytes <= size - next, where_,
                        ": tensor \"", entry.info.name, "\" lies at ", entry.begin, "..",
                        entry.begin + entry.info.bytes, " of ", size, " bytes, after ", next);
    next += entry.info.bytes;
    index_.add(entry.info.name);  // is new: the header has no key twice
  }
  MOEKIT_CHECK_FORMAT(next == size, where_, ": ", size - next, " bytes belong to no tensor");
}

const TensorInfo& MappedTensors::info(std::string_view name) const {
  return entries_[index_.position(name, where_)].info;
}

torch::Tensor MappedTensors::read_codes(std::string_view name) const {
  const Entry& entry = entries_[index_.position(name, where_)];
  const auto options = torch::TensorOptions().dtype(code_type(entry.info.dtype));
  if (entry.info.bytes == 0) return torch::empty(entry.info.shape, options);
  char* begin = data_ + entry.begin;
  if (reinterpret_cast<uintptr_t>(begin) % dtype_bytes(entry.info.dtype) == 0) {
    return torch::from_blob(
        begin, entry.info.shape, [file = file_](void*) {}, options);
  }
  auto copy = torch::empty(entry.info.shape, options);
  std::memcpy(copy.data_ptr(), begin, entry.info.bytes);
  return copy;
}

namespace {

/// A JSON string. @throws ArgumentError when the text is not UTF-8.
std::string quoted(const std::string& text, const std::string& where) {
  try {
    return Json(text).dump();
  } catch (const Json::exception&) {
    throw ArgumentError(concat(
        where, ": not UTF-8: ", Json(text).dump(-1, ' ', false, Json::error_handler_t::replace)));
  }
}

std::string header_text(const std::vector<TensorInfo>& tensors, const Metadata& metadata,
                        const std::string& where) {
  // By hand: Json keeps the order of keys in a list, which makes inserting quadratic.
  std::string text = "{";
  if (!metadata.empty()) {
    for (const auto& [key, value] : metadata) {
      text += text.size() > 1 ? "," : concat('"', kMetadataKey, "\":{");
      text += quoted(key, where) + ":" + quoted(value, where);
    }
    text += "}";
  }
  NameIndex names;
  uint64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    MOEKIT_CHECK(tensor.name != kMetadataKey, where, ": no tensor can be named \"", kMetadataKey,
                 "\"");
    MOEKIT_CHECK(names.add(tensor.name), where, ": two tensors are named \"", tensor.name, "\"");
    MOEKIT_CHECK(tensor_bytes(tensor.dtype, tensor.shape) == tensor.bytes, where, ": tensor \"",
                 tensor.name, "\": ", tensor.bytes, " bytes are not ",
                 torch::IntArrayRef(tensor.shape), " of ", tensor.dtype);
    text += (text.size() > 1 ? "," : "") + quoted(tensor.name, where) +
            concat(":{\"dtype\":\"", tensor.dtype, "\",\"shape\":", Json(tensor.shape).dump(),
                   ",\"data_offsets\":[", offset, ",", offset + tensor.bytes, "]}");
    offset += tensor.bytes;
  }
  text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');  // keeps the data aligned to 8 bytes
  MOEKIT_CHECK(text.size() <= kMaxHeaderBytes, where, ": a header of ", text.size(),
               " bytes; at most ", kMaxHeaderBytes, " are allowed");
  return text;
}

std::string_view bytes_of(const torch::Tensor& tensor) {
  return {static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()};
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorInfo> tensors, const Metadata& metadata)
    : tensors_(std::move(tensors)), file_(path) {
  const std::string text = header_text(tensors_, metadata, path.string());
  const uint64_t length = text.size();
  file_.append({reinterpret_cast<const char*>(&length), sizeof(length)});
  file_.append(text);
}

void SafetensorsWriter::write(std::string_view name, const torch::Tensor& tensor) {
  const std::string where = file_.path().string();
  MOEKIT_CHECK(next_ < tensors_.size(), where, ": tensor \"", name, "\" was not announced");
  const TensorInfo& wanted = tensors_[next_];
  MOEKIT_CHECK(name == wanted.name, where, ": tensor \"", wanted.name, "\" comes next, not \"",
               name, "\"");
  MOEKIT_CHECK(tensor.sizes() == wanted.shape && tensor.scalar_type() == code_type(wanted.dtype),
               where, ": tensor \"", name, "\" was announced as ", torch::IntArrayRef(wanted.shape),
               " ", code_type(wanted.dtype), ", it is ", tensor.sizes(), " ", tensor.scalar_type());
  file_.append(bytes_of(tensor.detach().cpu().contiguous()));
  ++next_;
}

void SafetensorsWriter::commit() {
  MOEKIT_CHECK(next_ == tensors_.size(), file_.path().string(), ": ", tensors_.size() - next_,
               " tensors are missing, the first is \"", tensors_[next_].name, "\"");
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, const TensorSource& source) {
  std::vector<TensorInfo> infos;
  infos.reserve(source.names().size());
  for (const auto& name : source.names()) infos.push_back(source.info(name));
  SafetensorsWriter writer(path, std::move(infos), source.metadata());
  for (const auto& name : source.names()) writer.write(name, source.read_codes(name));
  writer.commit();
}

}  // namespace moekit::checkpoint
