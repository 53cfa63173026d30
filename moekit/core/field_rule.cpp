#include "moekit/core/field_rule.h"

#include <cmath>

#include "moekit/core/error.h"

namespace moekit {

std::string FieldRule::complaint(double value) const {
  if (!std::isfinite(value)) return "a finite number";
  if (value < least || (open_least && value == least)) {
    if (!open_least) return concat("at least ", least);
    return least == 0 ? "positive" : concat("above ", least);
  }
  if (value > most || (open_most && value == most)) {
    return concat(open_most ? "below " : "at most ", most);
  }
  return {};
}

std::string FieldRule::text() const {
  std::string text;
  if (std::isfinite(least)) text = concat(open_least ? "> " : ">= ", least);
  if (std::isfinite(most)) {
    text += concat(text.empty() ? "" : ", ", open_most ? "< " : "<= ", most);
  }
  return text;
}

}  // namespace moekit
