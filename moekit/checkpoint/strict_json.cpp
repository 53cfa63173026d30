#include "moekit/checkpoint/strict_json.h"

#include "moekit/core/error.h"

namespace moekit::checkpoint {

void StrictJson::parse(std::string_view text) {
  levels_.resize(max_depth_);
  Json::sax_parse(text.begin(), text.end(), this);
}

void StrictJson::refuse(std::string_view wanted) const {
  std::string path;
  for (std::size_t i = 0; i < depth_; ++i) {
    if (!levels_[i].key.empty()) path += concat(path.empty() ? "" : ".", levels_[i].key);
  }
  if (!path.empty()) path = concat(" \"", path, "\":");
  throw FormatError(concat(where_, ":", path, " ", wanted));
}

bool StrictJson::key(string_t& name) {
  Level& level = levels_[depth_ - 1];
  level.key = name;
  if (!level.seen.insert(std::move(name)).second) refuse("the key stands there twice");
  return true;
}

bool StrictJson::parse_error(std::size_t position, const std::string& /*token*/,
                             const nlohmann::detail::exception& /*error*/) {
  throw FormatError(concat(where_, ": no JSON in UTF-8 from byte ", position, " on"));
}

bool StrictJson::scalar(Json value) {
  on_scalar(std::move(value));
  return true;
}

bool StrictJson::start(bool object) {
  if (depth_ == max_depth_) refuse(concat("nested deeper than ", max_depth_));
  on_start(object);
  Level& level = levels_[depth_++];
  level.key.clear();
  level.seen.clear();
  return true;
}

bool StrictJson::end() {
  --depth_;
  on_end();
  return true;
}

}  // namespace moekit::checkpoint
