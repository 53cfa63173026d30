#pragma once

#include <string>
#include <vector>

#include "moekit/core/json.h"

namespace moekit::report {

/// A token's expert and the weight of its output.
struct RoutedTo {
  int expert = 0;
  double weight = 0;
};

/// A text and where a model's mixtures sent its tokens.
struct RoutedText {
  std::string title;
  std::vector<std::string> tokens;                         ///< as they are read
  std::vector<std::vector<std::vector<RoutedTo>>> routes;  ///< [layers][tokens], heaviest first
};

/// A token in what stands around it.
struct Snippet {
  std::string before;
  std::string token;
  std::string after;
};

/// What one expert is given.
struct ExpertCard {
  double share = 0;                                    ///< of all tokens' choices, 0..1
  std::vector<std::pair<std::string, int>> tokens;     ///< most frequent first, with their count
  std::vector<std::pair<std::string, double>> groups;  ///< share of its tokens that are of each
  std::vector<Snippet> snippets;
};

struct RoutedTexts {
  std::vector<std::string> layers;  ///< names
  std::vector<RoutedText> texts;
  std::vector<std::vector<ExpertCard>> cards;  ///< [layers][experts]
};

/// As a file holds them, and back. @param where  the file, for messages
/// @throws FormatError naming file and key for what is no such value or does not go together
Json to_json(const RoutedTexts& texts);
RoutedTexts routed_texts_of(const Json& value, const std::string& where);

/// The texts with every token in its expert's colour, of a layer that the reader chooses, and that
/// layer's cards; drawn by the page's script out of what is appended to `all`.
/// @throws FormatError when sizes do not go together
std::string routed_texts_html(const RoutedTexts& texts, Json& all);

}  // namespace moekit::report
