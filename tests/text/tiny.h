#pragma once

#include <string>
#include <vector>

#include "moekit/core/error.h"
#include "moekit/text/part.h"
#include "moekit/text/tokenizer.h"

namespace moekit::text {

using Ids = std::vector<std::int32_t>;
using Texts = std::vector<std::string>;

/// A tokenizer of members of a document: `tiny(R"("model": {...})")`.
inline Tokenizer tiny(const std::string& members) {
  return Tokenizer::parse("{" + members + "}", "tiny.json");
}

/// What refuses it says; empty where nothing does.
template <typename E = FormatError, typename Action>
std::string refusal(Action&& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return {};
}
inline std::string refusal_of(const std::string& members) {
  return refusal([&] { tiny(members); });
}

/// A part by itself.
template <typename Table, typename Site>
auto part(const std::string& json) {
  return make_part<Table>(parse_json(json, "part.json"), Site{Place{"part.json", "part"}});
}

}  // namespace moekit::text
