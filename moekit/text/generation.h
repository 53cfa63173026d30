#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moekit::text {

/// How a text is gone on with.
struct GenerationOptions {
  std::string prompt;
  std::int64_t tokens = 200;  ///< at most so many
  double temperature = 1;     ///< 0: always the likeliest token
  std::int64_t top_k = 0;     ///< of the likeliest tokens alone; 0: all
  double top_p = 1;           ///< the likeliest ones that have this share together
  std::int64_t seed = 1;
  std::vector<std::string> stop;  ///< the text ends before the first of these
};

/// @throws ArgumentError naming the flag
void check_options(const GenerationOptions& options);

/// Draws a token from logits by these options: a pure function of its arguments, the same on every
/// machine. Ties go to the lower id.
/// @param logits  one a token, at least one @param uniform  a number of 0..1, without 1
std::int64_t choose_token(const std::vector<float>& logits, const GenerationOptions& options,
                          double uniform);

/// Text that comes piece by piece, up to the first stop string; gives out what can no longer
/// change: neither half a character nor what may be the beginning of a stop string.
class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stop) : stop_(std::move(stop)) {}
  /// @param bytes  the whole text so far, which only grows @return what is new in it
  std::string next(std::string_view bytes);
  /// The rest, half characters replaced. @return what is new
  std::string finish(std::string_view bytes);
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_;
  std::size_t given_ = 0;
  bool stopped_ = false;
};

}  // namespace moekit::text
