#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "moekit/core/config.h"

namespace moekit::checkpoint {

/// Reads JSON text as a stream of values, in time linear in its length, without building a
/// document. Text that is no JSON in UTF-8, an object that has a key twice and nesting deeper than
/// allowed are FormatErrors with the file in front, as is whatever the derived reader refuses.
class StrictJson : public Json::json_sax_t {
 public:
  bool null() final { return scalar(nullptr); }
  bool boolean(bool value) final { return scalar(value); }
  bool number_integer(number_integer_t value) final { return scalar(value); }
  bool number_unsigned(number_unsigned_t value) final { return scalar(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) final { return scalar(value); }
  bool string(string_t& value) final { return scalar(std::move(value)); }
  bool binary(binary_t& /*value*/) final { return false; }  // JSON text has none
  bool start_object(std::size_t /*count*/) final { return start(true); }
  bool start_array(std::size_t /*count*/) final { return start(false); }
  bool key(string_t& name) final;
  bool end_object() final { return end(); }
  bool end_array() final { return end(); }
  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::detail::exception& error) final;

 protected:
  StrictJson(std::string where, std::size_t max_depth)
      : where_(std::move(where)), max_depth_(max_depth) {}
  void parse(std::string_view text);

  virtual void on_scalar(Json value) = 0;
  /// depth() is still that of the value around it.
  virtual void on_start(bool object) = 0;
  /// depth() is that of the value around it again.
  virtual void on_end() {}

  /// How many objects and arrays are open.
  std::size_t depth() const { return depth_; }
  /// The key last read in the object that was opened at this depth.
  const std::string& key_at(std::size_t depth) const { return levels_[depth].key; }
  const std::string& where() const { return where_; }
  /// @throws FormatError naming file and key.
  [[noreturn]] void refuse(std::string_view wanted) const;

 private:
  struct Level {
    std::string key;
    std::unordered_set<std::string> seen;
  };
  bool scalar(Json value);
  bool start(bool object);
  bool end();

  std::string where_;
  std::size_t max_depth_;
  std::size_t depth_ = 0;
  std::vector<Level> levels_;
};

}  // namespace moekit::checkpoint
