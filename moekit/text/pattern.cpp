#include "moekit/text/pattern.h"

#include "moekit/text/utf8.h"

namespace moekit::text {

Pattern::Pattern(const Json& value, const Place& place) {
  constexpr const char* kWanted = "{\"String\": \"...\"} or {\"Regex\": \"...\"}, not empty";
  if (!value.is_object() || value.size() != 1) refuse(place, kWanted, value);
  const std::string kind = value.begin().key();
  const Json& text = value.begin().value();
  if (!text.is_string() || text.get_ref<const std::string&>().empty()) {
    refuse(place.key(kind), kWanted, text);
  }
  if (kind == "String") {
    literal_ = text.get<std::string>();
  } else if (kind == "Regex") {
    regex_.emplace(text.get_ref<const std::string&>(), place.key(kind));
  } else {
    refuse(place, kWanted, Json(kind));
  }
}

std::optional<Span> Pattern::find(std::string_view text, std::size_t from) const {
  if (regex_) return regex_->find(text, from);
  const std::size_t begin = text.find(literal_, from);
  if (begin == std::string_view::npos) return std::nullopt;
  return Span{begin, begin + literal_.size()};
}

bool Matches::next() {
  while (from_ <= text_.size()) {
    const auto found = pattern_.find(text_, from_);
    if (!found) break;
    if (found->begin == found->end && last_end_ == found->end) {
      from_ += from_ < text_.size() ? character_bytes(text_[from_]) : 1;
      continue;
    }
    from_ = found->end;
    last_end_ = found->end;
    span = *found;
    return true;
  }
  from_ = text_.size() + 1;
  return false;
}

std::string replace_all(const Pattern& pattern, std::string_view text, std::string_view content) {
  std::string out;
  if (text.empty()) return out;  // an empty match in nothing does not count
  std::size_t end = 0;
  for (Matches found(pattern, text); found.next(); end = found.span.end) {
    out += text.substr(end, found.span.begin - end);
    out += content;
  }
  out += text.substr(end);
  return out;
}

}  // namespace moekit::text
