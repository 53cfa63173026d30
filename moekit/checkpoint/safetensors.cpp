#include "moekit/checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "moekit/core/error.h"
#include "moekit/core/json_text.h"

namespace moekit::checkpoint {
namespace {

namespace dom = simdjson::dom;

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr const char* kMetadataKey = "__metadata__";
constexpr size_t kHeaderDepth = 3;  // {"name": {"shape": [

}  // namespace

/// Header text to entries and metadata; knows each entry by itself, not how they lie together.
class MappedTensors::HeaderReader {
 public:
  explicit HeaderReader(MappedTensors& out) : out_(out) {}

  void read(std::string_view text) {
    JsonText document;
    const auto root = document.parse(text, out_.where_, kHeaderDepth);
    MOEKIT_CHECK_FORMAT(root.is_object(), out_.where_, ": the header must be a JSON object");
    const dom::object header = value_of<dom::object>(root);
    out_.entries_.reserve(header.size());
    for (const auto [key, value] : header) {
      key_ = key;
      if (!value.is_object()) refuse("must be an object");
      if (key == kMetadataKey) {
        read_metadata(value_of<dom::object>(value));
      } else {
        read_entry(value_of<dom::object>(value));
      }
    }
  }

 private:
  void read_metadata(const dom::object& metadata) {
    for (const auto [key, value] : metadata) {
      if (!value.is_string()) refuse(concat(in_quotes(key), " must be a string"));
      out_.metadata_.emplace(key, value_of<std::string_view>(value));
    }
  }

  void read_entry(const dom::object& object) {
    Entry entry{};
    std::optional<Dtype> dtype;
    bool shape_seen = false;
    offsets_.clear();
    for (const auto [key, value] : object) {
      if (key == "dtype" && value.is_string()) {
        dtype = parse_dtype(value_of<std::string_view>(value));
        if (!dtype) refuse(concat("unknown dtype ", in_quotes(value_of<std::string_view>(value))));
      } else if (key == "shape") {
        shape_seen = true;
        read_numbers(value, entry.info.shape);
      } else if (key == "data_offsets") {
        read_numbers(value, offsets_);
      } else {
        refuse("holds something else than dtype (a string), shape and data_offsets (arrays)");
      }
    }
    if (!dtype || !shape_seen || offsets_.size() != 2) {
      refuse("needs dtype, shape and two data_offsets");
    }
    const auto bytes = tensor_bytes(*dtype, entry.info.shape);
    if (!bytes) refuse(concat("shape of ", entry.info.shape.size(), " sizes is too large"));
    const auto begin = static_cast<uint64_t>(offsets_[0]);
    const auto end = static_cast<uint64_t>(offsets_[1]);
    if (begin > end || end - begin != *bytes) {
      refuse(concat("data_offsets ", begin, ", ", end, " do not hold ", *bytes, " bytes"));
    }
    entry.info.name = key_;
    entry.info.dtype = *dtype;
    entry.info.bytes = *bytes;
    entry.begin = begin;
    out_.entries_.push_back(std::move(entry));
  }

  void read_numbers(dom::element list, std::vector<int64_t>& out) const {
    constexpr const char* kWanted = "shape and data_offsets must be lists of whole numbers from 0";
    if (!list.is_array()) refuse(kWanted);
    for (const auto item : value_of<dom::array>(list)) {
      uint64_t number = 0;
      if (item.get_uint64().get(number) != simdjson::SUCCESS) refuse(kWanted);
      // No tensor and no file comes near 2^62; a bound here keeps all sums and casts in range.
      if (number > uint64_t{1} << 62) refuse(concat(number, " is too large"));
      out.push_back(static_cast<int64_t>(number));
    }
  }

  [[noreturn]] void refuse(std::string_view wanted) const {
    throw FormatError(concat(out_.where_, ": ", in_quotes(key_), ": ", wanted));
  }

  MappedTensors& out_;
  std::string_view key_;          ///< of the entry being read
  std::vector<int64_t> offsets_;  ///< of the entry being read
};

MappedTensors::MappedTensors(const std::filesystem::path& path)
    : where_(path.string()), file_(std::make_shared<MappedFile>(path)) {
  MOEKIT_CHECK_FORMAT(file_->size() >= 8, where_, ": ", file_->size(),
                      " bytes are too short for a safetensors file");
  uint64_t length = 0;
  std::memcpy(&length, file_->data(), 8);
  MOEKIT_CHECK_FORMAT(length <= kMaxHeaderBytes && length <= file_->size() - 8, where_,
                      ": a header of ", length, " bytes does not fit the file of ", file_->size());
  HeaderReader(*this).read({file_->data() + 8, length});
  data_ = file_->data() + 8 + length;
  const auto before = [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.info.bytes) < std::pair(b.begin, b.info.bytes);
  };
  if (!std::is_sorted(entries_.begin(), entries_.end(), before)) {
    std::stable_sort(entries_.begin(), entries_.end(), before);
  }
  const uint64_t size = file_->size() - 8 - length;
  uint64_t next = 0;
  index_.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    MOEKIT_CHECK_FORMAT(entry.begin == next && entry.info.bytes <= size - next, where_, ": tensor ",
                        in_quotes(entry.info.name), " lies at ", entry.begin, "..",
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
std::string utf8_quoted(const std::string& text, const std::string& where) {
  MOEKIT_CHECK(is_utf8(text), where, ": not UTF-8: ", in_quotes(text));
  return in_quotes(text);
}

std::string header_text(const std::vector<TensorInfo>& tensors, const Metadata& metadata,
                        const std::string& where) {
  // By hand: Json keeps the order of keys in a list, which makes inserting quadratic.
  std::string text = "{";
  if (!metadata.empty()) {
    for (const auto& [key, value] : metadata) {
      text += text.size() > 1 ? "," : concat('"', kMetadataKey, "\":{");
      text += utf8_quoted(key, where) + ":" + utf8_quoted(value, where);
    }
    text += "}";
  }
  NameIndex names;
  names.reserve(tensors.size());
  uint64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    MOEKIT_CHECK(tensor.name != kMetadataKey, where, ": no tensor can be named \"", kMetadataKey,
                 "\"");
    MOEKIT_CHECK(names.add(tensor.name), where, ": two tensors are named \"", tensor.name, "\"");
    MOEKIT_CHECK(tensor_bytes(tensor.dtype, tensor.shape) == tensor.bytes, where, ": tensor \"",
                 tensor.name, "\": ", tensor.bytes, " bytes are not ",
                 torch::IntArrayRef(tensor.shape), " of ", tensor.dtype);
    if (text.size() > 1) text += ',';
    text += utf8_quoted(tensor.name, where);
    text += ":{\"dtype\":\"";
    text += dtype_name(tensor.dtype);
    text += "\",\"shape\":[";
    for (size_t d = 0; d < tensor.shape.size(); ++d) {
      if (d > 0) text += ',';
      text += std::to_string(tensor.shape[d]);
    }
    text += "],\"data_offsets\":[" + std::to_string(offset) + ",";
    offset += tensor.bytes;
    text += std::to_string(offset) + "]}";
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
  const auto& where = file_.path().native();
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
