#include "cli/print.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace moekit::cli {
namespace {

void print_value(const std::string& name, const Json& value, int depth) {
  const std::string indent(static_cast<size_t>(2 * depth), ' ');
  if (value.is_object()) {
    fmt::print("{}{}\n", indent, name);
    for (const auto& [key, item] : value.items()) print_value(key, item, depth + 1);
  } else if (value.is_number_float()) {
    const auto number = value.get<double>();
    const bool small = number != 0 && std::abs(number) < 5e-5;  // would be 0.0000
    fmt::print(fmt::runtime(small ? "{}{:30} {:.2e}\n" : "{}{:30} {:.4f}\n"), indent, name, number);
  } else {
    fmt::print("{}{:30} {}\n", indent, name,
               value.is_string() ? value.get<std::string>() : value.dump());
  }
}

/// "model.router.kind = linear or attentive", for keys that some kinds have and others not.
std::string when_text(const ConfigKey& key, const std::vector<ConfigKey>& keys) {
  std::string text;
  for (const auto& [path, names] : key.when) {
    const bool all = std::any_of(keys.begin(), keys.end(), [&, &at = path, &of = names](auto& k) {
      return k.path == at && k.kinds.size() == of.size();
    });
    if (all) continue;
    const std::vector<std::string_view> views(names.begin(), names.end());
    text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", path, join_choices(views));
  }
  return text;
}

}  // namespace

void note_unchecked(const std::filesystem::path& run) {
  std::error_code error;
  const auto model = run / "model";
  if (!std::filesystem::exists(model / "config.json", error) ||
      std::filesystem::exists(model / "manifest.json", error)) {
    return;
  }
  fmt::print(stderr, "moekit: {}: has no manifest.json: its files are not checked\n",
             model.string());
}

void print_summary(const Json& summary) {
  for (const auto& [key, value] : summary.items()) print_value(key, value, 0);
}

void print_keys(const std::vector<ConfigKey>& keys) {
  for (const auto& key : keys) {
    std::vector<std::string_view> names;
    for (const auto& [name, what] : key.kinds) names.push_back(name);
    const std::string when = when_text(key, keys);
    const std::string range = key.rule.text();
    fmt::print("  {:34} {:24} {}{}{}{}{}{}\n", key.path, key.default_value, key.doc,
               key.doc.empty() || names.empty() ? "" : ": ", join_choices(names),
               range.empty() ? "" : fmt::format(" ({})", range),
               key.rule.on_resume ? " (may change on --resume)" : "",
               when.empty() ? "" : fmt::format(" [{}]", when));
  }
}

void print_keys_markdown(const std::vector<ConfigKey>& keys) {
  fmt::print(
      "| key | default | meaning | range | resume | of |\n"
      "| --- | --- | --- | --- | --- | --- |\n");
  for (const auto& key : keys) {
    std::string doc = key.doc;
    for (const auto& [name, what] : key.kinds) {
      doc += fmt::format("{}`{}`: {}", doc.empty() ? "" : "<br>", name, what);
    }
    fmt::print("| `{}` | `{}` | {} | {} | {} | {} |\n", key.path, key.default_value, doc,
               key.rule.text(), key.rule.on_resume ? "may change" : "", when_text(key, keys));
  }
}

}  // namespace moekit::cli
