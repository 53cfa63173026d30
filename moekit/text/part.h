#pragma once

#include <string>

#include "moekit/core/kinds.h"
#include "moekit/text/place.h"

namespace moekit::text {

/// Fills a visitable struct from a part of the document: keys that are not its fields are refused.
/// @throws FormatError naming file, key and value
template <Visitable T>
void bind_part(const Json& part, const Place& place, T& out) {
  if (!part.is_object()) refuse(place, "an object", part);
  ConfigTree tree;
  tree.origins[""] = place.file;
  try {
    detail::TableBinder binder{tree, part, place.path};
    out.visit(binder);
    binder.refuse_unknown();
    check_values(out, concat(place));
  } catch (const ArgumentError& error) {
    throw FormatError(error.what());
  }
}

/// What a part of the document makes: its "type" names a row of the table, the keys beside it are
/// the options of that row.
/// @param part  its large values are moved out of it
/// @param site  of the table, with a `place` that says where the part stands
/// @throws FormatError naming file, key and value
template <typename Table, typename Site>
auto make_part(Json part, const Site& site) {
  const Place& place = site.place;
  if (!part.is_object()) refuse(place, "an object with a type", part);
  const auto type = part.find("type");
  if (type == part.end() || !type->is_string()) {
    refuse(place.key("type"), kind_names(Table::rows()), type == part.end() ? Json() : *type);
  }
  const auto name = type->template get<std::string>();
  const typename Table::Row* found = nullptr;
  for (const auto& row : Table::rows()) {
    if (row.name == name) found = &row;
  }
  MOEKIT_CHECK_FORMAT(found != nullptr, place.key("type"), ": unknown ", Table::kWhat, " ",
                      in_quotes(name), "; known: ", kind_names(Table::rows()));
  part.erase(type);
  ConfigTree tree;
  tree.origins[""] = place.file;
  try {
    const auto options = found->options();
    detail::TableBinder binder{tree, part, place.path};
    binder.kind = concat("type ", in_quotes(name));
    options->bind(binder);
    binder.refuse_unknown();
    found->check(*options, site, concat(place));
    return found->make(*options, site);
  } catch (const ArgumentError& error) {
    throw FormatError(error.what());
  }
}

/// As `make_part`, of a list of parts: the kind "Sequence" of most tables.
/// @param site  of the list
template <typename Table, typename Site>
auto make_parts(const Json& list, const Site& site) {
  if (!list.is_array()) refuse(site.place, "a list", list);
  std::vector<decltype(make_part<Table>(list, site))> made;
  for (std::size_t i = 0; i < list.size(); ++i) {
    Site inner = site;
    inner.place = site.place.item(i);
    made.push_back(make_part<Table>(list[i], inner));
  }
  return made;
}

}  // namespace moekit::text
