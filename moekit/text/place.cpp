#include "moekit/text/place.h"

namespace moekit::text {

std::string in_short(const Json& value) {
  constexpr std::size_t kMost = 80;
  if (value.is_object()) return "an object";
  if (value.is_array()) return concat("a list of ", value.size());
  std::string text = dump_text(value);
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  return text;
}

void refuse(const Place& place, std::string_view wanted, const Json& got) {
  throw FormatError(concat(place, " must be ", wanted, "; got ", in_short(got)));
}

}  // namespace moekit::text
