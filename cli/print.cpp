#include "cli/print.h"

#include <fmt/format.h>

namespace moekit::cli {
namespace {

void print_value(const std::string& name, const Json& value, int depth) {
  const std::string indent(static_cast<size_t>(2 * depth), ' ');
  if (value.is_object()) {
    fmt::print("{}{}\n", indent, name);
    for (const auto& [key, item] : value.items()) print_value(key, item, depth + 1);
  } else if (value.is_number_float()) {
    fmt::print("{}{:30} {:.4f}\n", indent, name, value.get<double>());
  } else {
    fmt::print("{}{:30} {}\n", indent, name,
               value.is_string() ? value.get<std::string>() : value.dump());
  }
}

}  // namespace

void print_summary(const Json& summary) {
  for (const auto& [key, value] : summary.items()) print_value(key, value, 0);
}

void print_keys(const std::vector<ConfigKey>& keys) {
  for (const auto& key : keys) {
    fmt::print("  {:34} {:24} {}\n", key.path, key.default_value, key.doc);
  }
}

}  // namespace moekit::cli
