#include "moekit/checkpoint/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "moekit/core/config.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::checkpoint {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the reference implementation

constexpr std::pair<torch::ScalarType, const char*> kDtypes[] = {
    {torch::kFloat64, "F64"},   {torch::kFloat32, "F32"}, {torch::kFloat16, "F16"},
    {torch::kBFloat16, "BF16"}, {torch::kInt64, "I64"},   {torch::kInt32, "I32"},
    {torch::kInt16, "I16"},     {torch::kInt8, "I8"},     {torch::kUInt8, "U8"},
    {torch::kBool, "BOOL"},
};

const char* dtype_name(torch::ScalarType type, const std::string& tensor) {
  for (const auto& [candidate, name] : kDtypes) {
    if (candidate == type) return name;
  }
  throw ArgumentError(concat("write_safetensors: ", tensor,
                             " has a dtype the format lacks: ", c10::toString(type)));
}

torch::ScalarType parse_dtype(const std::string& name, const std::string& where) {
  for (const auto& [type, candidate] : kDtypes) {
    if (name == candidate) return type;
  }
  throw FormatError(concat(where, ": unknown dtype \"", name, "\""));
}

struct Entry {
  std::string name;
  torch::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin;
  uint64_t end;
};

Entry parse_entry(const std::string& name, const Json& item, const std::string& path) {
  const std::string where = concat(path, ": tensor \"", name, "\"");
  MOEKIT_CHECK_FORMAT(item.is_object() && item.contains("dtype") && item["dtype"].is_string() &&
                          item.contains("shape") && item["shape"].is_array() &&
                          item.contains("data_offsets") && item["data_offsets"].is_array() &&
                          item["data_offsets"].size() == 2,
                      where, ": needs dtype, shape and two data_offsets");
  Entry entry{name, parse_dtype(item["dtype"].get<std::string>(), where), {}, 0, 0};
  uint64_t bytes = c10::elementSize(entry.dtype);
  for (const auto& size : item["shape"]) {
    MOEKIT_CHECK_FORMAT(size.is_number_unsigned(), where, ": bad shape ", item["shape"].dump());
    const auto value = size.get<uint64_t>();
    MOEKIT_CHECK_FORMAT(
        value <= (uint64_t{1} << 48) && (value == 0 || bytes <= (uint64_t{1} << 48) / value), where,
        ": shape ", item["shape"].dump(), " is too large");
    bytes *= value;
    entry.shape.push_back(static_cast<int64_t>(value));
  }
  for (const auto& offset : item["data_offsets"]) {
    MOEKIT_CHECK_FORMAT(offset.is_number_unsigned(), where, ": bad data_offsets");
  }
  entry.begin = item["data_offsets"][0].get<uint64_t>();
  entry.end = item["data_offsets"][1].get<uint64_t>();
  MOEKIT_CHECK_FORMAT(entry.begin <= entry.end && entry.end - entry.begin == bytes, where,
                      ": data_offsets ", item["data_offsets"].dump(), " do not hold ", bytes,
                      " bytes");
  return entry;
}

}  // namespace

const torch::Tensor& TensorFile::at(const std::string& name) const {
  for (const auto& [key, tensor] : tensors) {
    if (key == name) return tensor;
  }
  throw ArgumentError(concat("no tensor named \"", name, "\""));
}

bool TensorFile::contains(const std::string& name) const {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const auto& item) { return item.first == name; });
}

void write_safetensors(const std::filesystem::path& path, const TensorFile& file) {
  Json header = Json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  std::vector<torch::Tensor> data;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : file.tensors) {
    MOEKIT_CHECK(!header.contains(name), "write_safetensors: two tensors are named \"", name, "\"");
    const auto plain = tensor.detach().cpu().contiguous();
    const uint64_t bytes = plain.nbytes();
    header[name] = {{"dtype", dtype_name(plain.scalar_type(), name)},
                    {"shape", plain.sizes().vec()},
                    {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
    data.push_back(plain);
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // keeps the data aligned to 8 bytes
  const uint64_t length = text.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  bytes.reserve(8 + text.size() + offset);
  bytes += text;
  for (const auto& tensor : data) {
    bytes.append(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
  }
  write_file_atomic(path, bytes);
}

TensorFile read_safetensors(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  const std::string where = path.string();
  MOEKIT_CHECK_FORMAT(bytes.size() >= 8, where, ": ", bytes.size(),
                      " bytes are too short for a safetensors file");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  MOEKIT_CHECK_FORMAT(length <= kMaxHeader && length <= bytes.size() - 8, where, ": a header of ",
                      length, " bytes does not fit the file of ", bytes.size());
  const Json header = Json::parse(bytes.begin() + 8,
                                  bytes.begin() + 8 + static_cast<std::ptrdiff_t>(length), nullptr,
                                  /*allow_exceptions=*/false);
  MOEKIT_CHECK_FORMAT(header.is_object(), where, ": the header is no JSON object");
  TensorFile file;
  std::vector<Entry> entries;
  for (const auto& [name, item] : header.items()) {
    if (name == "__metadata__") {
      MOEKIT_CHECK_FORMAT(item.is_object(), where, ": __metadata__ is no object");
      for (const auto& [key, value] : item.items()) {
        MOEKIT_CHECK_FORMAT(value.is_string(), where, ": __metadata__.", key, " is no string");
        file.metadata[key] = value.get<std::string>();
      }
      continue;
    }
    entries.push_back(parse_entry(name, item, where));
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const uint64_t size = bytes.size() - 8 - length;
  uint64_t next = 0;
  for (const Entry& entry : entries) {
    MOEKIT_CHECK_FORMAT(entry.begin == next && entry.end <= size, where, ": tensor \"", entry.name,
                        "\" lies at ", entry.begin, "..", entry.end, " of ", size, " bytes, after ",
                        next);
    next = entry.end;
    auto tensor = torch::empty(entry.shape, torch::TensorOptions().dtype(entry.dtype));
    if (entry.end > entry.begin) {
      std::memcpy(tensor.data_ptr(), bytes.data() + 8 + length + entry.begin,
                  entry.end - entry.begin);
    }
    file.tensors.emplace_back(entry.name, tensor);
  }
  MOEKIT_CHECK_FORMAT(next == size, where, ": ", size - next, " bytes belong to no tensor");
  return file;
}

}  // namespace moekit::checkpoint
