#pragma once

#include <array>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moekit/core/error.h"

namespace moekit {

/// The one place where the values of an enum get their names: specialize it with a static
/// `constexpr std::array<std::pair<Enum, std::string_view>, n> kTable` next to the enum.
template <typename Enum>
struct EnumNames;

template <typename Enum>
concept NamedEnum = std::is_enum_v<Enum> && requires {
  EnumNames<Enum>::kTable;
};

/// "a, b or c"
std::string join_choices(const std::vector<std::string_view>& names);

/// The names of all values, for messages.
template <NamedEnum Enum>
std::string enum_choices() {
  std::vector<std::string_view> names;
  names.reserve(EnumNames<Enum>::kTable.size());
  for (const auto& [value, name] : EnumNames<Enum>::kTable) names.push_back(name);
  return join_choices(names);
}

template <NamedEnum Enum>
std::string_view enum_name(Enum value) {
  for (const auto& [candidate, name] : EnumNames<Enum>::kTable) {
    if (candidate == value) return name;
  }
  throw ArgumentError(concat("enum value ", static_cast<int>(value), " has no name"));
}

/// @throws ArgumentError when no value has this name; the message lists the choices.
template <NamedEnum Enum>
Enum parse_enum(std::string_view name) {
  for (const auto& [value, candidate] : EnumNames<Enum>::kTable) {
    if (candidate == name) return value;
  }
  throw ArgumentError(concat("\"", name, "\" is none of ", enum_choices<Enum>()));
}

}  // namespace moekit
