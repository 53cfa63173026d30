#pragma once

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/core/error.h"

namespace moekit {

/// Key order is kept, so that a resolved configuration reads like the recipe it came from.
using Json = nlohmann::ordered_json;

/// A configuration as read: values, and for every key path ("train.lr") where it was written
/// ("recipe.toml:12" or "--set train.lr").
struct ConfigTree {
  Json values = Json::object();
  std::map<std::string, std::string> origins;
};

/// Parses a TOML file. @throws IoError, or FormatError with file, line and column.
ConfigTree read_toml(const std::filesystem::path& path);

/// As `read_toml`, from text; `name` stands for the file in messages.
ConfigTree parse_toml(std::string_view text, const std::string& name);

/// Applies "key.path=value" over a tree; the value is TOML ("3e-4", "true", "[1, 2]"), and a
/// bare word is taken as a string. @throws ArgumentError naming the flag.
void apply_override(ConfigTree& tree, std::string_view assignment);

/// TOML text of a JSON object, tables after plain keys.
std::string to_toml(const Json& values);

/// Structs that name their fields once: `void visit(auto&& field) { field("lr", lr, "doc"); }`.
struct AnyField {
  template <typename T>
  void operator()(const char*, T&, const char*) const {}
};
template <typename T>
concept Visitable = requires(T& value) {
  value.visit(AnyField{});
};

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};

namespace detail {
std::string json_kind(const Json& value);
[[noreturn]] void refuse_value(const ConfigTree& tree, const std::string& path,
                               std::string_view wanted, const Json& got);
[[noreturn]] void refuse_key(const ConfigTree& tree, const std::string& path,
                             const std::vector<std::string>& known);

template <typename T>
void bind_value(const ConfigTree& tree, const Json& node, const std::string& path, T& out);

/// Reads the keys of one table into the fields of a struct and remembers the names it saw.
struct TableBinder {
  const ConfigTree& tree;
  const Json& table;
  const std::string& path;
  std::vector<std::string> known = {};

  template <typename T>
  void operator()(const char* name, T& value, const char* /*doc*/) {
    known.emplace_back(name);
    const auto found = table.find(name);
    if (found != table.end()) {
      bind_value(tree, *found, path.empty() ? name : path + "." + name, value);
    }
  }
  void refuse_unknown() const {
    for (const auto& [key, unused] : table.items()) {
      bool found = false;
      for (const auto& name : known) found = found || name == key;
      if (!found) refuse_key(tree, path.empty() ? key : path + "." + key, known);
    }
  }
};

template <typename T>
void bind_value(const ConfigTree& tree, const Json& node, const std::string& path, T& out) {
  if constexpr (Visitable<T>) {
    if (!node.is_object()) refuse_value(tree, path, "a table", node);
    TableBinder binder{tree, node, path};
    out.visit(binder);
    binder.refuse_unknown();
  } else if constexpr (IsVector<T>::value) {
    if (!node.is_array()) refuse_value(tree, path, "an array", node);
    out.clear();
    for (std::size_t i = 0; i < node.size(); ++i) {
      typename T::value_type item{};
      bind_value(tree, node[i], path + "[" + std::to_string(i) + "]", item);
      out.push_back(std::move(item));
    }
  } else if constexpr (std::same_as<T, bool>) {
    if (!node.is_boolean()) refuse_value(tree, path, "true or false", node);
    out = node.get<bool>();
  } else if constexpr (NamedEnum<T>) {
    if (!node.is_string()) refuse_value(tree, path, enum_choices<T>(), node);
    const auto name = node.get<std::string>();
    for (const auto& [value, candidate] : EnumNames<T>::kTable) {
      if (candidate == name) {
        out = value;
        return;
      }
    }
    refuse_value(tree, path, enum_choices<T>(), node);
  } else if constexpr (std::integral<T>) {
    if (!node.is_number_integer()) refuse_value(tree, path, "a whole number", node);
    if constexpr (std::is_unsigned_v<T>) {
      if (node.get<std::int64_t>() < 0) refuse_value(tree, path, "a number from 0", node);
    }
    out = node.get<T>();
  } else if constexpr (std::floating_point<T>) {
    if (!node.is_number()) refuse_value(tree, path, "a number", node);
    out = node.get<T>();
  } else if constexpr (std::same_as<T, std::string>) {
    if (!node.is_string()) refuse_value(tree, path, "a string", node);
    out = node.get<std::string>();
  } else {
    static_assert(std::same_as<T, Json>, "a field of a type that no configuration value has");
    out = node;
  }
}

}  // namespace detail

/// Fills a visitable struct from a tree; fields that are not named keep their value.
/// @throws ArgumentError for an unknown key or a value of the wrong type, with the key's origin.
template <Visitable T>
void bind_config(const ConfigTree& tree, T& out) {
  detail::bind_value(tree, tree.values, "", out);
}

/// The fields of a visitable struct as JSON, nested structs as objects.
template <typename T>
Json to_json(const T& value) {
  if constexpr (Visitable<T>) {
    Json out = Json::object();
    // visit() is written once, for reading and writing: it takes the struct as mutable.
    const_cast<T&>(value).visit(
        [&](const char* name, auto& field, const char*) { out[name] = to_json(field); });
    return out;
  } else if constexpr (IsVector<T>::value) {
    Json out = Json::array();
    for (const auto& item : value) out.push_back(to_json(item));
    return out;
  } else if constexpr (NamedEnum<T>) {
    return std::string(enum_name(value));
  } else {
    return value;
  }
}

/// One line a field: key path, default value, doc with the choices of an enumeration. What
/// `moekit train --list-keys` prints.
struct ConfigKey {
  std::string path;
  std::string default_value;
  std::string doc;
};

/// @param prefix  of all paths: "data.options", or nothing
template <Visitable T>
std::vector<ConfigKey> config_keys(const T& defaults, const std::string& prefix = {}) {
  std::vector<ConfigKey> keys;
  const_cast<T&>(defaults).visit([&](const char* name, auto& field, const char* doc) {
    const std::string path = prefix.empty() ? name : prefix + "." + name;
    using Field = std::remove_reference_t<decltype(field)>;
    if constexpr (Visitable<Field>) {
      for (auto& key : config_keys(field, path)) keys.push_back(std::move(key));
    } else if constexpr (NamedEnum<Field>) {
      const std::string choices = enum_choices<Field>();
      keys.push_back(
          {path, to_json(field).dump(), *doc == '\0' ? choices : doc + (": " + choices)});
    } else {
      keys.push_back({path, to_json(field).dump(), doc});
    }
  });
  return keys;
}

/// Where a key was written, or "default".
std::string origin_of(const ConfigTree& tree, const std::string& path);

}  // namespace moekit
