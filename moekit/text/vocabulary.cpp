#include "moekit/text/vocabulary.h"

namespace moekit::text {

void Vocabulary::add(std::string_view content, std::int64_t id, const Place& place) {
  MOEKIT_CHECK_FORMAT(id >= 0 && id < kMaxVocabulary, place, ": the id of ", in_quotes(content),
                      " must be from 0 to ", kMaxVocabulary - 1, "; got ", id);
  if (const std::string* other = this->content(id)) {
    throw FormatError(concat(place, ": ", in_quotes(content), " has the id ", id,
                             ", which is that of ", in_quotes(*other)));
  }
  if (const auto other = find(content)) {
    throw FormatError(
        concat(place, ": ", in_quotes(content), " has the ids ", *other, " and ", id));
  }
  if (id >= size()) index_.resize(static_cast<std::size_t>(id) + 1, -1);
  index_[static_cast<std::size_t>(id)] = static_cast<std::int32_t>(contents_.size());
  ids_.emplace(contents_.emplace_back(content), static_cast<std::int32_t>(id));
}

std::optional<std::int32_t> Vocabulary::find(std::string_view content) const {
  const auto found = ids_.find(content);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::content(std::int64_t id) const {
  if (id < 0 || id >= size()) return nullptr;
  const std::int32_t at = index_[static_cast<std::size_t>(id)];
  return at < 0 ? nullptr : &contents_[static_cast<std::size_t>(at)];
}

}  // namespace moekit::text
