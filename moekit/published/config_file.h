#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/core/json.h"

namespace moekit::published {

/// The keys of a published model's config.json. Keys that nobody asks for are common and ignored;
/// null counts as absent. Messages name file, key and value.
class ConfigFile {
 public:
  /// @throws IoError; FormatError for a file that is no JSON object.
  explicit ConfigFile(const std::filesystem::path& path);
  ConfigFile(Json values, std::string where);

  const std::string& where() const { return where_; }
  bool has(std::string_view key) const { return find(key) != nullptr; }
  bool is_list(std::string_view key) const;

  /// @throws FormatError (also below) for a value of another kind or outside least..2^31, or none
  ///         where there is no `otherwise`.
  int64_t integer(std::string_view key, std::optional<int64_t> otherwise = {},
                  int64_t least = 1) const;
  /// Of the first key that is there: families spell the same size in several ways.
  int64_t integer(std::initializer_list<std::string_view> keys) const;
  double number(std::string_view key, std::optional<double> otherwise = {}) const;
  bool flag(std::string_view key, bool otherwise) const;
  std::string text(std::string_view key, std::optional<std::string> otherwise = {}) const;
  /// Empty where the key is absent.
  std::vector<std::string> texts(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;
  /// The object under a key; empty where it is absent.
  ConfigFile section(std::string_view key) const;

  /// @throws FormatError: file, key, its value and `what`.
  [[noreturn]] void refuse(std::string_view key, const std::string& what) const;

 private:
  const Json* find(std::string_view key) const;
  std::string named(std::string_view key) const;

  Json values_;
  std::string where_;
  std::string path_;  ///< of the section: "text_config."
};

}  // namespace moekit::published
