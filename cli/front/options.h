#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "moekit/core/enum_names.h"

/// Flags and words of the command line. Numbers and choices are read here and not by CLI11, which
/// clamps what is too large, takes "010" as octal and lets NaN pass.
namespace moekit::cli {

// What a flag or word takes, as help and manual show it; completion goes by it too.
inline constexpr const char* kFile = "FILE";
inline constexpr const char* kFolder = "FOLDER";
inline constexpr const char* kRun = "RUN";        ///< a run's folder
inline constexpr const char* kRecipe = "RECIPE";  ///< a TOML file
inline constexpr const char* kPaper = "PAPER";    ///< a folder below recipes/
inline constexpr const char* kNumber = "N";

/// Of an option with a finite choice: what there is.
using Choices = std::map<const CLI::Option*, std::vector<std::string>>;

struct WholeRange {
  std::int64_t least = 0;
  std::int64_t most = std::numeric_limits<std::int64_t>::max();
};
struct RealRange {
  double least = 0;
  double most = 0;
};

/// @param option  for the message, "--seed"
/// @throws ArgumentError with option and text unless it is a plain decimal number of the range.
std::int64_t parse_whole(const std::string& option, const std::string& text, WholeRange range);
double parse_real(const std::string& option, const std::string& text, RealRange range);
/// @throws ArgumentError with option, text and choices, and the nearest of them.
void check_choice(const std::string& option, const std::string& text,
                  const std::vector<std::string>& choices);

/// "train: --seed": how messages name an option.
std::string full_name(const CLI::App& app, const std::string& option);

CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& target,
                      const char* takes, const std::string& doc);

/// A flag that may be given several times, each with one text.
CLI::Option* add_texts(CLI::App& app, const std::string& name, std::vector<std::string>& target,
                       const char* takes, const std::string& doc);

namespace detail {
CLI::Option* add_value(CLI::App& app, const std::string& name, const char* takes,
                       const std::string& doc,
                       const std::function<void(const std::string& text)>& store);
CLI::Option* add_list(CLI::App& app, const std::string& name, const char* takes,
                      const std::string& doc,
                      const std::function<void(const std::vector<std::string>& texts)>& store);
}  // namespace detail

/// A whole number of any integer type that holds the range.
template <typename T>
CLI::Option* add_whole(CLI::App& app, const std::string& name, T& target, WholeRange range,
                       const std::string& doc) {
  return detail::add_value(app, name, kNumber, doc,
                           [&target, range, full = full_name(app, name)](const std::string& text) {
                             const std::int64_t value = parse_whole(full, text, range);
                             if constexpr (std::is_integral_v<T>) {
                               target = static_cast<T>(value);
                             } else {
                               target = value;  // an optional
                             }
                           });
}

/// Several, comma separated.
template <typename T>
CLI::Option* add_wholes(CLI::App& app, const std::string& name, std::vector<T>& target,
                        WholeRange range, const std::string& doc) {
  return detail::add_list(
      app, name, "N,N...", doc,
      [&target, range, full = full_name(app, name)](const std::vector<std::string>& texts) {
        target.clear();
        for (const auto& text : texts) {
          target.push_back(static_cast<T>(parse_whole(full, text, range)));
        }
      });
}

CLI::Option* add_real(CLI::App& app, const std::string& name, double& target, RealRange range,
                      const std::string& doc);

/// One of a few texts. @param store  called with one of them
CLI::Option* add_choice(CLI::App& app, Choices& choices, const std::string& name,
                        const std::vector<std::string>& known, const std::string& doc,
                        const std::function<void(const std::string& text)>& store);

/// Several of a few texts, comma separated.
CLI::Option* add_choices(CLI::App& app, Choices& choices, const std::string& name,
                         const std::vector<std::string>& known, const std::string& doc,
                         const std::function<void(const std::string& text)>& store);

/// A value of an enum by its name; the default is what the target holds.
template <NamedEnum Enum>
CLI::Option* add_enum(CLI::App& app, Choices& choices, const std::string& name, Enum& target,
                      const std::string& doc) {
  std::vector<std::string> known;
  known.reserve(EnumNames<Enum>::kTable.size());
  for (const auto& [value, word] : EnumNames<Enum>::kTable) known.emplace_back(word);
  return add_choice(app, choices, name, known, doc,
                    [&target](const std::string& text) { target = parse_enum<Enum>(text); })
      ->default_str(std::string(enum_name(target)));
}

}  // namespace moekit::cli
