#include "moekit/core/config.h"

#include <toml++/toml.h>
#include <algorithm>
#include <sstream>

#include "moekit/core/files.h"

namespace moekit {
namespace {

Json to_json_value(const toml::node& node, const std::string& name, const std::string& path,
                   std::map<std::string, std::string>& origins) {
  origins[path] = concat(name, ":", node.source().begin.line);
  if (const auto* table = node.as_table()) {
    Json out = Json::object();
    // toml++ sorts keys; the file's own order is kept by sorting on the position.
    std::vector<std::pair<std::string, const toml::node*>> items;
    for (const auto& [key, value] : *table) items.emplace_back(std::string(key.str()), &value);
    std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
      return a.second->source().begin < b.second->source().begin;
    });
    for (const auto& [key, value] : items) {
      out[key] = to_json_value(*value, name, path.empty() ? key : concat(path, ".", key), origins);
    }
    return out;
  }
  if (const auto* array = node.as_array()) {
    Json out = Json::array();
    for (std::size_t i = 0; i < array->size(); ++i) {
      out.push_back(
          to_json_value(*array->get(i), name, path + "[" + std::to_string(i) + "]", origins));
    }
    return out;
  }
  if (const auto* value = node.as_string()) return value->get();
  if (const auto* value = node.as_integer()) return value->get();
  if (const auto* value = node.as_floating_point()) return value->get();
  if (const auto* value = node.as_boolean()) return value->get();
  throw FormatError(concat(origins[path], ": ", path, " is a date or time; none is expected"));
}

/// Levenshtein distance, to suggest the key that was probably meant.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row.back();
}

void write_toml_value(std::ostream& out, const Json& value) {
  if (value.is_string()) {
    out << toml::value<std::string>(value.get<std::string>());
  } else if (value.is_number_float()) {
    out << toml::value<double>(value.get<double>());
  } else if (value.is_array()) {
    out << "[";
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (i > 0) out << ", ";
      write_toml_value(out, value[i]);
    }
    out << "]";
  } else if (value.is_object()) {
    out << "{ ";
    bool first = true;
    for (const auto& [key, item] : value.items()) {
      if (!first) out << ", ";
      first = false;
      out << key << " = ";
      write_toml_value(out, item);
    }
    out << " }";
  } else {
    out << value.dump();
  }
}

void write_toml_table(std::ostream& out, const Json& table, const std::string& prefix) {
  for (const auto& [key, value] : table.items()) {
    if (value.is_object()) continue;
    out << key << " = ";
    write_toml_value(out, value);
    out << "\n";
  }
  for (const auto& [key, value] : table.items()) {
    if (!value.is_object()) continue;
    const std::string path = prefix.empty() ? key : concat(prefix, ".", key);
    out << "\n[" << path << "]\n";
    write_toml_table(out, value, path);
  }
}

void forget_origins(ConfigTree& tree, const std::string& path) {
  for (auto it = tree.origins.begin(); it != tree.origins.end();) {
    const bool below = it->first == path || it->first.rfind(path + ".", 0) == 0 ||
                       it->first.rfind(path + "[", 0) == 0;
    it = below ? tree.origins.erase(it) : std::next(it);
  }
}

}  // namespace

std::string join_choices(const std::vector<std::string_view>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i + 1 == names.size() ? " or " : ", ";
    out += names[i];
  }
  return out;
}

ConfigTree parse_toml(std::string_view text, const std::string& name) {
  try {
    const toml::table table = toml::parse(text, name);
    ConfigTree tree;
    tree.values = to_json_value(table, name, "", tree.origins);
    return tree;
  } catch (const toml::parse_error& error) {
    throw FormatError(concat(name, ":", error.source().begin.line, ":", error.source().begin.column,
                             ": ", error.description()));
  }
}

ConfigTree read_toml(const std::filesystem::path& path) {
  return parse_toml(read_file(path, 1 << 24), path.string());
}

void apply_override(ConfigTree& tree, std::string_view assignment) {
  const auto equals = assignment.find('=');
  MOEKIT_CHECK(equals != std::string_view::npos && equals > 0, "--set ", assignment,
               ": expected key.path=value, for example train.lr=3e-4");
  const std::string path(assignment.substr(0, equals));
  const std::string text(assignment.substr(equals + 1));
  const std::string flag = concat("--set ", path);
  Json value;
  try {
    value = parse_toml("value = " + text, flag).values.at("value");
  } catch (const FormatError&) {
    value = text;  // a bare word
  }
  Json* node = &tree.values;
  std::istringstream keys(path);
  std::string key;
  std::string parent;
  while (std::getline(keys, key, '.')) {
    MOEKIT_CHECK(!key.empty(), flag, ": an empty key");
    MOEKIT_CHECK(node->is_object(), flag, ": ", parent, " is no table");
    node = &(*node)[key];
    parent += parent.empty() ? key : "." + key;
    if (node->is_null() && parent != path) *node = Json::object();
  }
  *node = std::move(value);
  forget_origins(tree, path);
  tree.origins[path] = flag;
}

std::string to_toml(const Json& values) {
  std::ostringstream out;
  write_toml_table(out, values, "");
  return out.str();
}

std::string origin_of(const ConfigTree& tree, const std::string& path) {
  for (std::string at = path;;) {
    const auto found = tree.origins.find(at);
    if (found != tree.origins.end()) return found->second;
    if (at.empty()) return "default";
    const auto cut = at.find_last_of(".[");
    at = cut == std::string::npos ? "" : at.substr(0, cut);
  }
}

namespace detail {

std::string json_kind(const Json& value) {
  if (value.is_object()) return "a table";
  if (value.is_array()) return "an array";
  return value.dump();
}

void refuse_value(const ConfigTree& tree, const std::string& path, std::string_view wanted,
                  const Json& got) {
  throw ArgumentError(
      concat(origin_of(tree, path), ": ", path, " must be ", wanted, "; got ", json_kind(got)));
}

void refuse_kind(const ConfigTree& tree, const std::string& path, std::string_view what,
                 const std::string& names, const Json& got) {
  throw ArgumentError(concat(origin_of(tree, path), ": ", path, ": unknown ", what, " ",
                             json_kind(got), "; known: ", names));
}

void KeyLister::add(ConfigKey key) {
  for (auto& other : keys) {
    if (other.path != key.path || other.default_value != key.default_value ||
        other.doc != key.doc) {
      continue;
    }
    // The same key of several kinds stands once. A condition that only one of them has is none.
    for (auto it = other.when.begin(); it != other.when.end();) {
      const auto found = key.when.find(it->first);
      if (found == key.when.end()) {
        it = other.when.erase(it);
        continue;
      }
      for (auto& name : found->second) {
        if (std::find(it->second.begin(), it->second.end(), name) == it->second.end()) {
          it->second.push_back(name);
        }
      }
      ++it;
    }
    return;
  }
  keys.push_back(std::move(key));
}

void KeyLister::add_choice(const std::string& key, std::string_view value, const std::string& doc,
                           const std::string& names,
                           std::vector<std::pair<std::string, std::string>> kinds) {
  add({path_of(key), Json(std::string(value)).dump(),
       doc + (doc.empty() || names.empty() ? "" : ": ") + names, when, std::move(kinds)});
}

void refuse_key(const ConfigTree& tree, const std::string& path,
                const std::vector<std::string>& known, const std::string& kind) {
  const auto dot = path.rfind('.');
  const std::string key = dot == std::string::npos ? path : path.substr(dot + 1);
  const std::string* nearest = nullptr;
  std::size_t best = 4;  // further apart than this is no typing error
  for (const auto& name : known) {
    const std::size_t distance = edit_distance(key, name);
    if (distance < best) {
      best = distance;
      nearest = &name;
    }
  }
  std::string hint;
  if (nearest != nullptr) hint = concat("; did you mean ", *nearest, "?");
  if (nearest == nullptr || !kind.empty()) {
    hint += kind.empty() ? "; known here:" : concat("; ", kind, " has");
    for (const auto& name : known) hint += " " + name;
    if (known.empty()) hint += " none";
  }
  throw ArgumentError(concat(origin_of(tree, path), ": unknown key ", path, hint));
}

}  // namespace detail
}  // namespace moekit
