#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moekit/core/enum_names.h"
#include "moekit/core/error.h"
#include "moekit/core/field_rule.h"
#include "moekit/core/files.h"
#include "moekit/core/json.h"

namespace moekit {

/// A configuration as read: values, and for every key path ("train.lr") where it was written
/// ("recipe.toml:12" or "--set train.lr").
struct ConfigTree {
  Json values = Json::object();
  std::map<std::string, std::string> origins;  ///< of the root, "", the file's name
};

/// Recipes and studies are written by hand: a larger file is none.
inline constexpr std::uint64_t kMaxTomlBytes = std::uint64_t{1} << 20;

/// Parses a TOML file. @throws IoError; FormatError above `kMaxTomlBytes`;
/// ArgumentError with file, line and column for text that is no TOML or is nested too deep, and for
/// a file without any key.
ConfigTree read_toml(const std::filesystem::path& path, FileKind kind = FileKind::kRegular);

/// As `read_toml`, from text; `name` stands for the file in messages.
ConfigTree parse_toml(std::string_view text, const std::string& name);

/// Applies "key.path=value" over a tree; the value is TOML ("3e-4", "true", "[1, 2]"), and a
/// bare word is taken as a string. @throws ArgumentError naming the flag.
void apply_override(ConfigTree& tree, std::string_view assignment);

/// TOML text of a JSON object, tables after plain keys.
std::string to_toml(const Json& values);

/// Structs that name their fields once:
/// `void visit(auto&& field) { field("lr", lr, "doc", above(0)); }`; the rule may be left out.
struct AnyField {
  template <typename T>
  void operator()(const char*, T&, const char*, const FieldRule& = {}) const {}
};
template <typename T>
concept Visitable = requires(T& value) {
  value.visit(AnyField{});
};

/// A field that names a kind, whose own keys stand beside it: see core/kinds.h.
template <typename T>
concept ChoiceField = requires {
  typename T::KindTable;
};

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};

namespace detail {
std::string json_kind(const Json& value);
[[noreturn]] void refuse_value(const ConfigTree& tree, const std::string& path,
                               std::string_view wanted, const Json& got);
[[noreturn]] void refuse_kind(const ConfigTree& tree, const std::string& path,
                              std::string_view what, const std::string& names, const Json& got);
/// @param kind  says which keys there are, or empty
[[noreturn]] void refuse_key(const ConfigTree& tree, const std::string& path,
                             const std::vector<std::string>& known, const std::string& kind);

template <typename T>
void bind_value(const ConfigTree& tree, const Json& node, const std::string& path, T& out,
                const FieldRule& rule = {});

/// Reads the keys of one table into the fields of a struct and remembers the names it saw.
struct TableBinder {
  const ConfigTree& tree;
  const Json& table;
  const std::string& path;
  std::vector<std::string> known = {};
  std::string kind = {};  ///< "kind = \"linear\"", where such keys of the table say which it has

  std::string path_of(const std::string& key) const {
    return path.empty() ? key : path + "." + key;
  }
  template <typename T>
  void operator()(const char* name, T& value, const char* /*doc*/, const FieldRule& rule = {}) {
    if constexpr (ChoiceField<T>) {
      value.bind(*this, name);
    } else {
      known.emplace_back(name);
      const auto found = table.find(name);
      if (found != table.end()) bind_value(tree, *found, path_of(name), value, rule);
    }
  }
  /// Binds a table below this one by `bind`. @param of  the kind that says which keys it has
  template <typename Bind>
  void bind_table(const char* name, const std::string& of, Bind&& bind) {
    known.emplace_back(name);
    const auto found = table.find(name);
    if (found == table.end()) return;
    const std::string inner_path = path_of(name);
    if (!found->is_object()) refuse_value(tree, inner_path, "a table", *found);
    TableBinder inner{tree, *found, inner_path};
    inner.kind = of;
    bind(inner);
    inner.refuse_unknown();
  }
  void refuse_unknown() const {
    for (const auto& [key, unused] : table.items()) {
      bool found = false;
      for (const auto& name : known) found = found || name == key;
      if (!found) refuse_key(tree, path_of(key), known, kind);
    }
  }
};

/// Writes the fields of a struct as keys of a JSON object.
struct TableWriter {
  Json& out;
  template <typename T>
  void operator()(const char* name, T& field, const char* doc, const FieldRule& = {});
};

template <typename T>
void bind_value(const ConfigTree& tree, const Json& node, const std::string& path, T& out,
                const FieldRule& rule) {
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
      bind_value(tree, node[i], path + "[" + std::to_string(i) + "]", item, rule);
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
    // A file's JSON may hold what only a uint64 does.
    const bool fits = node.is_number_unsigned() ? std::in_range<T>(node.get<std::uint64_t>())
                                                : std::in_range<T>(node.get<std::int64_t>());
    if (!fits) {
      refuse_value(
          tree, path,
          concat("from ", std::numeric_limits<T>::min(), " to ", std::numeric_limits<T>::max()),
          node);
    }
    out = node.get<T>();
    const auto wanted = rule.complaint(static_cast<double>(out));
    if (!wanted.empty()) refuse_value(tree, path, wanted, node);
  } else if constexpr (std::floating_point<T>) {
    if (!node.is_number()) refuse_value(tree, path, "a number", node);
    out = node.get<T>();
    const auto wanted = rule.complaint(out);
    if (!wanted.empty()) refuse_value(tree, path, wanted, node);
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

/// Fills a visitable struct from JSON of a file. @param where  the file, for messages
/// @throws ArgumentError as bind_config()
template <Visitable T>
void bind_json(const Json& values, const std::string& where, T& out) {
  ConfigTree tree;
  tree.values = values;
  tree.origins[""] = where;
  bind_config(tree, out);
}

namespace detail {

template <typename T>
void check_value(const T& value, const std::string& path, const FieldRule& rule);

/// Holds the fields of a struct against their rules. Those of kinds check themselves, see
/// Choice::check().
struct ValueChecker {
  std::string path;
  template <typename T>
  void operator()(const char* name, const T& value, const char* /*doc*/,
                  const FieldRule& rule = {}) const {
    if constexpr (!ChoiceField<T>) {
      check_value(value, path.empty() ? name : path + "." + name, rule);
    }
  }
};

template <typename T>
void check_value(const T& value, const std::string& path, const FieldRule& rule) {
  if constexpr (Visitable<T>) {
    // visit() is written once, for reading and writing: it takes the struct as mutable.
    const_cast<T&>(value).visit(ValueChecker{path});
  } else if constexpr (IsVector<T>::value) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      check_value(value[i], path + "[" + std::to_string(i) + "]", rule);
    }
  } else if constexpr (std::is_arithmetic_v<T> && !std::same_as<T, bool>) {
    const auto wanted = rule.complaint(static_cast<double>(value));
    MOEKIT_CHECK(wanted.empty(), path, " must be ", wanted, "; got ", value);
  }
}

}  // namespace detail

/// Refuses numbers that break their fields' rules, as bind_config() does, for structs that were
/// filled in code. @param where  path of the struct, or nothing
/// @throws ArgumentError naming key and value
template <Visitable T>
void check_values(const T& value, const std::string& where) {
  detail::check_value(value, where, {});
}

/// The fields of a visitable struct as JSON, nested structs as objects.
template <typename T>
Json to_json(const T& value) {
  if constexpr (Visitable<T>) {
    Json out = Json::object();
    // visit() is written once, for reading and writing: it takes the struct as mutable.
    detail::TableWriter writer{out};
    const_cast<T&>(value).visit(writer);
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

namespace detail {

template <typename T>
void TableWriter::operator()(const char* name, T& field, const char* /*doc*/,
                             const FieldRule& /*rule*/) {
  if constexpr (ChoiceField<T>) {
    field.write(*this, name);
  } else {
    out[name] = to_json(field);
  }
}

}  // namespace detail

/// One line a field: key path, default value, doc with the choices of an enumeration. What
/// `moekit train --list-keys` prints.
struct ConfigKey {
  std::string path;
  std::string default_value;
  std::string doc;
  /// Which kinds have the key: path of the key that names the kind -> names; empty: all.
  std::map<std::string, std::vector<std::string>> when = {};
  /// Of a key that names a kind: the kinds there are, and what each is.
  std::vector<std::pair<std::string, std::string>> kinds = {};
  FieldRule rule = {};
};

namespace detail {

/// Collects the keys of a struct.
struct KeyLister {
  std::vector<ConfigKey>& keys;
  std::string prefix;
  std::map<std::string, std::vector<std::string>> when = {};

  std::string path_of(const std::string& key) const {
    return prefix.empty() ? key : prefix + "." + key;
  }
  void add(ConfigKey key);
  void add_choice(const std::string& key, std::string_view value, const std::string& doc,
                  const std::string& names,
                  std::vector<std::pair<std::string, std::string>> kinds = {});
  /// The keys that the kind `name` brings, beside `key` or in the table `options_key`.
  template <typename List>
  void add_kind(const std::string& key, const std::string& options_key, std::string_view name,
                std::size_t kinds, List&& list) {
    KeyLister inner{keys, options_key.empty() ? prefix : path_of(options_key), when};
    if (kinds > 1) inner.when[path_of(key)] = {std::string(name)};
    list(inner);
  }
  template <typename T>
  void operator()(const char* name, T& field, const char* doc, const FieldRule& rule = {}) {
    if constexpr (ChoiceField<T>) {
      field.list(*this, name, doc);
    } else if constexpr (Visitable<T>) {
      KeyLister inner{keys, path_of(name), when};
      field.visit(inner);
    } else if constexpr (NamedEnum<T>) {
      add_choice(name, enum_name(field), doc, enum_choices<T>());
    } else {
      add({path_of(name), to_json(field).dump(), doc, when, {}, rule});
    }
  }
};

}  // namespace detail

/// @param prefix  of all paths: "data.options", or nothing
template <Visitable T>
std::vector<ConfigKey> config_keys(const T& defaults, const std::string& prefix = {}) {
  std::vector<ConfigKey> keys;
  detail::KeyLister lister{keys, prefix};
  const_cast<T&>(defaults).visit(lister);
  return keys;
}

/// Where two recipes differ in keys that must stay when a run goes on: "train.lr was 0.1, now 0.2",
/// one a line; empty when they may follow each other.
std::string changes_refused(const Json& before, const Json& now,
                            const std::vector<ConfigKey>& keys);

/// Where a key was written: of it, or of the nearest table around it; of the root, the file's name.
std::string origin_of(const ConfigTree& tree, const std::string& path);

/// The message of a check of values, which begins with the path of the key it is about ("train.lr
/// must be positive"), with the place in front where that key was written: "r.toml:4: train.lr must
/// be positive". Of several keys that it names one of an override counts, if there is one.
/// @param otherwise  stands in front where the key was not written, may be empty
std::string located(const ConfigTree& tree, const std::string& message,
                    const std::string& otherwise = {});

/// Runs `action`; what it throws as ArgumentError comes out located().
template <typename Action>
decltype(auto) locate_errors(const ConfigTree& tree, Action&& action,
                             const std::string& otherwise = {}) {
  try {
    return action();
  } catch (const ArgumentError& error) {
    throw ArgumentError(located(tree, error.what(), otherwise));
  }
}

}  // namespace moekit
