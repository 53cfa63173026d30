#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "moekit/core/config.h"

namespace moekit {

/// What the JSON of a file must be, said once for each kind of file and checked before use:
///
///     static const Schema kLine = Schema::object({{"epoch", Schema::count()},
///                                                 {"train_loss", Schema::figure()}});
///     kLine.check(line, "metrics.jsonl:3");  // metrics.jsonl:3: epoch must be ...; got -1
class Schema {
 public:
  struct Member;

  static Schema any();
  static Schema boolean();
  static Schema text();
  /// A whole number `least`..2^62: sums of two stay in range.
  static Schema count(std::int64_t least = 0);
  static Schema number(double least = std::numeric_limits<double>::lowest(),
                       double most = std::numeric_limits<double>::max());
  /// A measured value from `least` on, or null, which is how JSON holds NaN and infinity.
  static Schema figure(double least = std::numeric_limits<double>::lowest());
  static Schema list(Schema item);
  /// An object with any keys, whose values are all of one kind.
  static Schema map(Schema value);
  /// An object with these keys, and any others beside them.
  static Schema object(std::vector<Member> members);

  /// @param where  the file, and line, for the message
  /// @throws FormatError naming file, key and value.
  void check(const Json& value, const std::string& where) const { check_(value, where, ""); }

 private:
  using Check =
      std::function<void(const Json& value, const std::string& where, const std::string& path)>;
  explicit Schema(Check check) : check_(std::move(check)) {}
  Check check_;
};

struct Schema::Member {
  std::string name;
  Schema value;
  bool required = true;
};

/// The value of a `Schema::figure`: NaN for null.
double figure_value(const Json& figure);

/// What a file that holds a struct's fields must be: every field there, whole numbers from 0.
template <typename T>
Schema schema_of() {
  if constexpr (Visitable<T>) {
    std::vector<Schema::Member> members;
    T defaults{};
    defaults.visit([&]<typename Field>(const char* name, Field&, const auto&...) {
      members.push_back({name, schema_of<Field>()});
    });
    return Schema::object(std::move(members));
  } else if constexpr (IsVector<T>::value) {
    return Schema::list(schema_of<typename T::value_type>());
  } else if constexpr (std::same_as<T, bool>) {
    return Schema::boolean();
  } else if constexpr (std::integral<T>) {
    return Schema::count();
  } else if constexpr (std::floating_point<T>) {
    return Schema::number();
  } else if constexpr (std::same_as<T, std::string>) {
    return Schema::text();
  } else {
    static_assert(std::same_as<T, Json>, "a field of a type that no state has");
    return Schema::any();
  }
}

/// Fills a struct that a program wrote into a file, `schema_of` it.
/// @throws FormatError naming file, key and value.
template <Visitable T>
void bind_state(const Json& values, const std::string& where, T& out) {
  schema_of<T>().check(values, where);
  try {
    bind_json(values, where, out);
  } catch (const ArgumentError& error) {  // a key that is not the struct's
    throw FormatError(error.what());
  }
}

}  // namespace moekit
