#include "moekit/published/config_file.h"

#include <cmath>
#include <utility>

#include "moekit/core/error.h"

namespace moekit::published {
namespace {

// Sizes beyond have no model; products of three of them still fit 64 bits with room.
constexpr int64_t kMostInteger = int64_t{1} << 31;

bool is_integer(const Json& value) {
  return value.is_number_integer() &&
         !(value.is_number_unsigned() &&
           value.get<uint64_t>() > static_cast<uint64_t>(kMostInteger));
}

}  // namespace

ConfigFile::ConfigFile(const std::filesystem::path& path)
    : ConfigFile(read_json(path, uint64_t{1} << 24), path.string()) {}

ConfigFile::ConfigFile(Json values, std::string where)
    : values_(std::move(values)), where_(std::move(where)) {
  MOEKIT_CHECK_FORMAT(values_.is_object(), where_, ": no JSON object");
}

const Json* ConfigFile::find(std::string_view key) const {
  const auto at = values_.find(key);
  return at == values_.end() || at->is_null() ? nullptr : &*at;
}

bool ConfigFile::is_list(std::string_view key) const {
  const Json* value = find(key);
  return value != nullptr && value->is_array();
}

std::string ConfigFile::named(std::string_view key) const { return concat(path_, key); }

void ConfigFile::refuse(std::string_view key, const std::string& what) const {
  const Json* value = find(key);
  constexpr std::size_t kShown = 60;  // of a list that may be long
  std::string shown = value == nullptr ? "missing" : dump_text(*value);
  if (shown.size() > kShown) shown = shown.substr(0, kShown) + "...";
  throw FormatError(concat(where_, ": ", named(key), value == nullptr ? ": " : " = ", shown,
                           what.empty() ? "" : ": ", what));
}

int64_t ConfigFile::integer(std::string_view key, std::optional<int64_t> otherwise,
                            int64_t least) const {
  const Json* value = find(key);
  if (value == nullptr && otherwise) return *otherwise;
  if (value == nullptr || !is_integer(*value)) refuse(key, "a whole number is wanted");
  const auto number = value->get<int64_t>();
  if (number < least || number > kMostInteger) {
    refuse(key, concat("must be ", least, "..", kMostInteger));
  }
  return number;
}

int64_t ConfigFile::integer(std::initializer_list<std::string_view> keys) const {
  for (const auto key : keys) {
    if (has(key)) return integer(key);
  }
  return integer(*keys.begin());
}

double ConfigFile::number(std::string_view key, std::optional<double> otherwise) const {
  const Json* value = find(key);
  if (value == nullptr && otherwise) return *otherwise;
  if (value == nullptr || !value->is_number()) refuse(key, "a number is wanted");
  const auto number = value->get<double>();
  if (!std::isfinite(number)) refuse(key, "must be finite");
  return number;
}

bool ConfigFile::flag(std::string_view key, bool otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  if (!value->is_boolean()) refuse(key, "true or false is wanted");
  return value->get<bool>();
}

std::string ConfigFile::text(std::string_view key, std::optional<std::string> otherwise) const {
  const Json* value = find(key);
  if (value == nullptr && otherwise) return *otherwise;
  if (value == nullptr || !value->is_string()) refuse(key, "a text is wanted");
  return value->get<std::string>();
}

std::vector<std::string> ConfigFile::texts(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return {};
  std::vector<std::string> out;
  if (!value->is_array()) refuse(key, "a list of texts is wanted");
  for (const auto& item : *value) {
    if (!item.is_string()) refuse(key, "a list of texts is wanted");
    out.push_back(item.get<std::string>());
  }
  return out;
}

std::vector<int64_t> ConfigFile::integers(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return {};
  std::vector<int64_t> out;
  if (!value->is_array()) refuse(key, "a list of whole numbers is wanted");
  for (const auto& item : *value) {
    if (!is_integer(item)) refuse(key, "a list of whole numbers is wanted");
    out.push_back(item.get<int64_t>());
  }
  return out;
}

std::vector<double> ConfigFile::numbers(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return {};
  std::vector<double> out;
  if (!value->is_array()) refuse(key, "a list of numbers is wanted");
  for (const auto& item : *value) {
    if (!item.is_number() || !std::isfinite(item.get<double>())) {
      refuse(key, "a list of finite numbers is wanted");
    }
    out.push_back(item.get<double>());
  }
  return out;
}

ConfigFile ConfigFile::section(std::string_view key) const {
  const Json* value = find(key);
  if (value != nullptr && !value->is_object()) refuse(key, "an object is wanted");
  ConfigFile part(value == nullptr ? Json::object() : *value, where_);
  part.path_ = named(key) + ".";
  return part;
}

}  // namespace moekit::published
