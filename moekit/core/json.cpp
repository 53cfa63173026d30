#include "moekit/core/json.h"

#include <algorithm>
#include <functional>
#include <unordered_set>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/json_text.h"

namespace moekit {
namespace {

namespace dom = simdjson::dom;

/// What is wrong, in our words.
std::string describe(simdjson::error_code code, std::size_t max_depth) {
  switch (code) {
    case simdjson::DEPTH_ERROR:
      return concat("nested deeper than ", max_depth);
    case simdjson::UTF8_ERROR:
      return "is not UTF-8";
    case simdjson::EMPTY:
      return "is no JSON: there is nothing in it";
    case simdjson::NUMBER_ERROR:
      return "is no JSON: a number in it is malformed or beyond double precision and 64 bits";
    case simdjson::STRING_ERROR:
    case simdjson::UNCLOSED_STRING:
    case simdjson::UNESCAPED_CHARS:
      return "is no JSON: a string in it does not end, or holds a wrong character or escape";
    case simdjson::CAPACITY:
    case simdjson::MEMALLOC:
      return "is too large for the memory";
    default:
      return "is no JSON";
  }
}

/// Refuses objects that have a key twice, in time linear in the document.
class KeyCheck {
 public:
  explicit KeyCheck(const std::string& origin) : origin_(origin) {}

  void check(dom::element element) {
    if (element.is_array()) {
      for (const auto value : value_of<dom::array>(element)) check(value);
    } else if (element.is_object()) {
      check_object(value_of<dom::object>(element));
    }
  }

 private:
  void check_object(const dom::object& object) {
    const bool suspicious = may_repeat(object);
    std::unordered_set<std::string_view> seen;
    for (const auto [key, value] : object) {
      path_.push_back(key);
      if (suspicious && !seen.insert(key).second) refuse();
      check(value);
      path_.pop_back();
    }
  }

  /// Whether two keys have the same hash. Cheaper than a set of all keys.
  bool may_repeat(const dom::object& object) {
    hashes_.clear();
    for (const auto [key, value] : object) hashes_.push_back(std::hash<std::string_view>{}(key));
    std::sort(hashes_.begin(), hashes_.end());
    return std::adjacent_find(hashes_.begin(), hashes_.end()) != hashes_.end();
  }

  [[noreturn]] void refuse() const {
    std::string path;
    for (const auto& part : path_) path += concat(path.empty() ? "" : ".", part);
    throw FormatError(concat(origin_, ": ", in_quotes(path), ": the key stands there twice"));
  }

  const std::string& origin_;
  std::vector<std::string_view> path_;
  std::vector<std::size_t> hashes_;  ///< of the keys of one object
};

Json to_json_value(dom::element element);

/// Filled without looking keys up, which `Json` does by going through all of them.
Json to_json_object(const dom::object& object) {
  Json out = Json::object();
  Json::object_t::Container& items = out.get_ref<Json::object_t&>();
  items.reserve(object.size());
  for (const auto [key, value] : object) items.emplace_back(std::string(key), to_json_value(value));
  return out;
}

Json to_json_array(const dom::array& array) {
  Json out = Json::array();
  auto& items = out.get_ref<Json::array_t&>();
  items.reserve(array.size());
  for (const auto value : array) items.push_back(to_json_value(value));
  return out;
}

Json to_json_value(dom::element element) {
  switch (element.type()) {
    case dom::element_type::OBJECT:
      return to_json_object(value_of<dom::object>(element));
    case dom::element_type::ARRAY:
      return to_json_array(value_of<dom::array>(element));
    case dom::element_type::STRING:
      return std::string(value_of<std::string_view>(element));
    case dom::element_type::INT64: {
      const std::int64_t value = value_of<std::int64_t>(element);
      // As nlohmann's own parser has it: unsigned where there is no sign.
      if (value >= 0) return static_cast<std::uint64_t>(value);
      return value;
    }
    case dom::element_type::UINT64:
      return value_of<std::uint64_t>(element);
    case dom::element_type::DOUBLE:
      return value_of<double>(element);
    case dom::element_type::BOOL:
      return value_of<bool>(element);
    default:
      return nullptr;
  }
}

}  // namespace

std::string dump_text(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

bool is_utf8(std::string_view text) { return simdjson::validate_utf8(text.data(), text.size()); }

std::string in_quotes(std::string_view text) { return dump_text(text); }

dom::element JsonText::parse(std::string_view text, const std::string& origin,
                             std::size_t max_depth) {
  // simdjson refuses the depth it is given, and takes one less.
  auto code =
      parser_.allocate(std::max<std::size_t>(text.size(), parser_.capacity()), max_depth + 1);
  dom::element root;
  if (code == simdjson::SUCCESS) code = parser_.parse(text.data(), text.size(), true).get(root);
  MOEKIT_CHECK_FORMAT(code == simdjson::SUCCESS, origin, ": ", describe(code, max_depth));
  KeyCheck(origin).check(root);
  return root;
}

Json parse_json(std::string_view text, const std::string& origin) {
  JsonText document;
  return to_json_value(document.parse(text, origin));
}

Json read_json(const std::filesystem::path& path, std::uint64_t max_bytes) {
  return parse_json(read_file(path, max_bytes), path.string());
}

std::vector<Json> read_json_lines(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const std::string text = read_file(path, max_bytes);
  std::vector<Json> lines;
  JsonText document;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string origin = concat(path.string(), ":", lines.size() + 1);
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    lines.push_back(to_json_value(document.parse(line, origin)));
    begin = end + 1;
  }
  return lines;
}

void write_json(const std::filesystem::path& path, const Json& json) {
  write_file_atomic(path, dump_text(json, 2) + "\n");
}

}  // namespace moekit
