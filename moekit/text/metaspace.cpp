#include "moekit/text/metaspace.h"

#include "moekit/text/utf8.h"

namespace moekit::text {

MetaspaceOptions settled(MetaspaceOptions options, const Place& place) {
  if (!is_one_character(options.replacement)) {
    refuse(place.key("replacement"), "one character", options.replacement);
  }
  if (!options.str_rep.is_null() && options.str_rep != options.replacement) {
    refuse(place.key("str_rep"), concat("the replacement, ", in_quotes(options.replacement)),
           options.str_rep);
  }
  if (!options.add_prefix_space.is_null() && !options.add_prefix_space.is_boolean()) {
    refuse(place.key("add_prefix_space"), "true or false", options.add_prefix_space);
  }
  if (options.add_prefix_space == false) options.prepend_scheme = PrependScheme::kNever;
  return options;
}

}  // namespace moekit::text
