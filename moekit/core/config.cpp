#include "moekit/core/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

#include "moekit/core/files.h"
#include "moekit/core/toml_depth.h"
#include "moekit/core/words.h"

namespace moekit {
namespace {

Json to_json_value(const toml::node& node, const std::string& name, const std::string& path,
                   std::map<std::string, std::string>& origins) {
  origins[path] = path.empty() ? name : concat(name, ":", node.source().begin.line);
  if (const auto* table = node.as_table()) {
    Json out = Json::object();
    // toml++ sorts keys; the file's own order is kept by sorting on the position.
    std::vector<std::pair<std::string, const toml::node*>> items;
    for (const auto& [key, value] : *table) items.emplace_back(std::string(key.str()), &value);
    std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
      return a.second->source().begin < b.second->source().begin;
    });
    for (const auto& [key, value] : items) {
      // Not `out[key]`, which goes through all keys before it; toml++ has no key twice.
      out.get_ref<Json::object_t&>().Json::object_t::Container::emplace_back(
          key, to_json_value(*value, name, path.empty() ? key : concat(path, ".", key), origins));
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
  throw ArgumentError(concat(origins[path], ": ", path, " is a date or time; none is expected"));
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

/// "a.b" of "a.b.c" and of "a.b[1]"; nothing of "a".
std::string parent_of(const std::string& path) {
  const auto cut = path.find_last_of(".[");
  return cut == std::string::npos ? "" : path.substr(0, cut);
}

/// Leaves of a recipe by path; a list, also one of tables, is one value.
void flatten(const Json& table, const std::string& prefix, std::map<std::string, Json>& out) {
  for (const auto& [key, value] : table.items()) {
    const std::string path = prefix.empty() ? key : concat(prefix, ".", key);
    if (value.is_object()) {
      flatten(value, path, out);
    } else {
      out[path] = value;
    }
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
  check_toml_depth(text, name);
  try {
    const toml::table table = toml::parse(text, name);
    ConfigTree tree;
    tree.values = to_json_value(table, name, "", tree.origins);
    return tree;
  } catch (const toml::parse_error& error) {
    throw ArgumentError(concat(name, ":", error.source().begin.line, ":",
                               error.source().begin.column, ": ", error.description()));
  }
}

ConfigTree read_toml(const std::filesystem::path& path, FileKind kind) {
  ConfigTree tree = parse_toml(read_file(path, kMaxTomlBytes, kind), path.string());
  MOEKIT_CHECK(!tree.values.empty(), path.string(), ": holds no key");
  return tree;
}

namespace {

/// The value of an override: TOML, or a bare word.
Json override_value(const std::string& text, const std::string& flag) {
  const bool one_line = text.find_first_of("\r\n") == std::string::npos;
  ConfigTree parsed;
  try {
    parsed = parse_toml("value = " + text, flag);
  } catch (const ArgumentError&) {
    MOEKIT_CHECK(one_line, flag, ": a value over several lines must be TOML");
    return text;  // a bare word
  }
  MOEKIT_CHECK(parsed.values.size() == 1, flag, ": more than a value: a second key follows it");
  return std::move(parsed.values.at("value"));
}

std::vector<std::string> split_path(const std::string& path, const std::string& flag) {
  std::vector<std::string> keys;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('.', begin), path.size());
    keys.push_back(path.substr(begin, end - begin));
    MOEKIT_CHECK(!keys.back().empty(), flag, ": an empty key");
    MOEKIT_CHECK(keys.size() <= kMaxTomlDepth, flag.substr(0, 80), "...: nested deeper than ",
                 kMaxTomlDepth);
    begin = end + 1;
  }
  return keys;
}

}  // namespace

void apply_override(ConfigTree& tree, std::string_view assignment) {
  MOEKIT_CHECK(is_utf8(assignment), "--set ", in_quotes(assignment), ": key or value is not UTF-8");
  const auto equals = assignment.find('=');
  MOEKIT_CHECK(equals != std::string_view::npos && equals > 0, "--set ", assignment,
               ": expected key.path=value, for example train.lr=3e-4");
  const std::string path(assignment.substr(0, equals));
  const std::string flag = concat("--set ", path);
  Json value = override_value(std::string(assignment.substr(equals + 1)), flag);
  Json* node = &tree.values;
  std::string parent;
  std::vector<std::string> made;  // tables that only this flag asks for
  for (const std::string& key : split_path(path, flag)) {
    MOEKIT_CHECK(node->is_object(), flag, ": ", parent, " is no table");
    node = &(*node)[key];
    parent += parent.empty() ? key : "." + key;
    if (node->is_null() && parent != path) {
      *node = Json::object();
      made.push_back(parent);
    }
  }
  *node = std::move(value);
  forget_origins(tree, path);
  tree.origins[path] = flag;
  for (const auto& table : made) tree.origins[table] = flag;
}

std::string to_toml(const Json& values) {
  std::ostringstream out;
  write_toml_table(out, values, "");
  return out.str();
}

std::string changes_refused(const Json& before, const Json& now,
                            const std::vector<ConfigKey>& keys) {
  std::map<std::string, Json> old_values;
  std::map<std::string, Json> new_values;
  flatten(before, "", old_values);
  flatten(now, "", new_values);
  std::set<std::string> paths;
  for (const auto& [path, value] : old_values) paths.insert(path);
  for (const auto& [path, value] : new_values) paths.insert(path);
  for (const auto& key : keys) {
    if (key.rule.on_resume) paths.erase(key.path);
  }
  const auto find = [](const std::map<std::string, Json>& values, const std::string& path) {
    const auto found = values.find(path);
    return found == values.end() ? nullptr : &found->second;
  };
  const auto show = [](const Json* value) {
    return value == nullptr ? "not there" : value->dump();
  };
  std::string changes;
  for (const auto& path : paths) {
    const Json* was = find(old_values, path);
    const Json* is = find(new_values, path);
    if (was != nullptr && is != nullptr && *was == *is) continue;  // as numbers: 1 is 1.0
    changes += concat(changes.empty() ? "" : "\n", path, " was ", show(was), ", now ", show(is));
  }
  return changes;
}

std::string origin_of(const ConfigTree& tree, const std::string& path) {
  for (std::string at = path;;) {
    const auto found = tree.origins.find(at);
    if (found != tree.origins.end()) return found->second;
    if (at.empty()) return "the recipe";
    at = parent_of(at);
  }
}

std::string located(const ConfigTree& tree, const std::string& message,
                    const std::string& otherwise) {
  const auto starts = [&](const std::string& text) { return message.rfind(text, 0) == 0; };
  const std::string file = origin_of(tree, "");
  if (starts(file + ":") || starts("--set ")) return message;  // says so already
  // Of the keys that it names, also by their last word beside the first one, one given by hand: who
  // overrode a key looks there first. Else the first, or what it is in.
  constexpr const char* kEnds = " :=,;()";
  const std::string first = message.substr(0, message.find_first_of(kEnds));
  const std::string beside = parent_of(first);
  for (std::size_t begin = 0; begin < message.size();) {
    const auto end = std::min(message.find_first_of(kEnds, begin), message.size());
    const std::string word = message.substr(begin, end - begin);
    for (const auto& path : {word, beside.empty() ? word : concat(beside, ".", word)}) {
      const auto found = tree.origins.find(path);
      if (found != tree.origins.end() && found->second.rfind("--set ", 0) == 0) {
        return concat(found->second, ": ", message);
      }
    }
    begin = end + 1;
  }
  for (std::string at = first; !at.empty(); at = parent_of(at)) {
    const auto found = tree.origins.find(at);
    if (found != tree.origins.end()) return concat(found->second, ": ", message);
  }
  return otherwise.empty() ? message : concat(otherwise, ": ", message);
}

namespace detail {

std::string json_kind(const Json& value) {
  if (value.is_object()) return "a table";
  if (value.is_array()) return "an array";
  // JSON has no word for these.
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    return concat(value.get<double>());
  }
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
  std::string hint = did_you_mean(key, known);
  if (hint.empty() || !kind.empty()) {
    hint += kind.empty() ? "; known here:" : concat("; ", kind, " has");
    for (const auto& name : known) hint += " " + name;
    if (known.empty()) hint += " none";
  }
  throw ArgumentError(concat(origin_of(tree, path), ": unknown key ", path, hint));
}

}  // namespace detail
}  // namespace moekit
