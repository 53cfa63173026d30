#pragma once

#include <array>
#include <string>
#include <utility>

#include "moekit/core/enum_names.h"
#include "moekit/text/place.h"

namespace moekit::text {

/// Before which pieces a space is set that they have not.
enum class PrependScheme { kFirst, kNever, kAlways };

}  // namespace moekit::text

namespace moekit {
template <>
struct EnumNames<text::PrependScheme> {
  static constexpr std::array<std::pair<text::PrependScheme, std::string_view>, 3> kTable{
      {{text::PrependScheme::kFirst, "first"},
       {text::PrependScheme::kNever, "never"},
       {text::PrependScheme::kAlways, "always"}}};
};
}  // namespace moekit

namespace moekit::text {

/// Of the pre-tokenizer and of the decoder, which undoes it.
struct MetaspaceOptions {
  std::string replacement = "\xE2\x96\x81";  // U+2581
  PrependScheme prepend_scheme = PrependScheme::kAlways;
  bool split = true;
  Json add_prefix_space;
  Json str_rep;

  template <typename Field>
  void visit(Field&& field) {
    field("replacement", replacement, "the character that stands for a space");
    field("prepend_scheme", prepend_scheme, "before which pieces a space is set");
    field("split", split, "each replacement begins a piece");
    field("add_prefix_space", add_prefix_space, "of older files: false is prepend_scheme never");
    field("str_rep", str_rep, "of older files: the replacement once more");
  }
};

/// The options with what older files say in `add_prefix_space`.
/// @throws FormatError unless `replacement` is one character, and for a `str_rep` that is another
MetaspaceOptions settled(MetaspaceOptions options, const Place& place);

}  // namespace moekit::text
