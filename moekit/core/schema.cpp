#include "moekit/core/schema.h"

#include <cmath>

namespace moekit {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 62;

[[noreturn]] void refuse(const Json& value, const std::string& where, const std::string& path,
                         const std::string& wanted) {
  std::string got = value.is_object() ? "an object" : value.is_array() ? "a list" : value.dump();
  constexpr std::size_t kShown = 60;  // of a long string, enough to find it
  if (got.size() > kShown) got = got.substr(0, kShown) + "...";
  throw FormatError(
      concat(where, ": ", path.empty() ? "" : path + " ", "must be ", wanted, "; got ", got));
}

std::string join(const std::string& path, const std::string& key) {
  return path.empty() ? key : path + "." + key;
}

}  // namespace

Schema Schema::any() {
  return Schema([](const Json&, const std::string&, const std::string&) {});
}

Schema Schema::boolean() {
  return Schema([](const Json& value, const std::string& where, const std::string& path) {
    if (!value.is_boolean()) refuse(value, where, path, "true or false");
  });
}

Schema Schema::text() {
  return Schema([](const Json& value, const std::string& where, const std::string& path) {
    if (!value.is_string()) refuse(value, where, path, "a string");
  });
}

Schema Schema::count(std::int64_t least) {
  return Schema([least](const Json& value, const std::string& where, const std::string& path) {
    // An unsigned number above int64 would read as a negative one.
    const bool fits = value.is_number_unsigned()
                          ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(kMost) &&
                                value.get<std::int64_t>() >= least
                          : value.is_number_integer() && value.get<std::int64_t>() >= least;
    if (!fits) refuse(value, where, path, concat("a whole number ", least, "..2^62"));
  });
}

Schema Schema::number(double least, double most) {
  return Schema(
      [least, most](const Json& value, const std::string& where, const std::string& path) {
        const double number = value.is_number() ? value.get<double>() : std::nan("");
        if (std::isfinite(number) && number >= least && number <= most) return;
        std::string range;
        if (least > std::numeric_limits<double>::lowest()) range = concat(" from ", least);
        if (most < std::numeric_limits<double>::max()) range += concat(" to ", most);
        refuse(value, where, path, concat("a finite number", range));
      });
}

Schema Schema::figure(double least) {
  return Schema([least](const Json& value, const std::string& where, const std::string& path) {
    if (value.is_null() || (value.is_number() && value.get<double>() >= least)) return;
    const bool bounded = least > std::numeric_limits<double>::lowest();
    refuse(value, where, path,
           concat("a number", bounded ? concat(" from ", least) : "", " or null"));
  });
}

Schema Schema::list(Schema item) {
  return Schema([item = std::move(item)](const Json& value, const std::string& where,
                                         const std::string& path) {
    if (!value.is_array()) refuse(value, where, path, "a list");
    for (std::size_t i = 0; i < value.size(); ++i) {
      item.check_(value[i], where, concat(path, "[", i, "]"));
    }
  });
}

Schema Schema::map(Schema item) {
  return Schema([item = std::move(item)](const Json& value, const std::string& where,
                                         const std::string& path) {
    if (!value.is_object()) refuse(value, where, path, "an object");
    for (const auto& [key, inner] : value.items()) item.check_(inner, where, join(path, key));
  });
}

Schema Schema::object(std::vector<Member> members) {
  return Schema([members = std::move(members)](const Json& value, const std::string& where,
                                               const std::string& path) {
    if (!value.is_object()) refuse(value, where, path, "an object");
    for (const auto& member : members) {
      const auto found = value.find(member.name);
      const std::string inner = join(path, member.name);
      MOEKIT_CHECK_FORMAT(found != value.end() || !member.required, where, ": lacks ", inner);
      if (found != value.end()) member.value.check_(*found, where, inner);
    }
  });
}

double figure_value(const Json& figure) {
  return figure.is_null() ? std::nan("") : figure.get<double>();
}

}  // namespace moekit
