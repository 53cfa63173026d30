#pragma once

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "moekit/study/record.h"

namespace moekit::study {

/// What was found of a committed table.
struct TableCheck {
  std::string maker;                  ///< what made it, and by which command
  std::string trouble;                ///< where the text is not what its record gives, or empty
  std::vector<std::string> repeated;  ///< runs that were trained again
  std::vector<std::string> failed;    ///< those of them that could not be, with the reason
  std::vector<Deviation> deviations;
  bool interrupted = false;

  bool sound() const { return trouble.empty() && failed.empty() && deviations.empty(); }
};

/// Where the record of a table lies: beside it, results.json of results.md.
std::filesystem::path record_file(const std::filesystem::path& table);

/// Holds a table that to_markdown() wrote against its record, which must give it letter by letter
/// under the study as it is, and some of the record's runs against new ones, see deviations().
/// @param options  of these runs; rows, tier, seeds and overrides are the record's
/// @param sample  runs to repeat, drawn from `generator`; all where there are no more
/// @throws IoError, FormatError, ArgumentError as read_record(), make_plan()
TableCheck check_tables(const Study& study, const std::filesystem::path& table,
                        const ReproductionOptions& options, const RecipeKnowledge& recipes,
                        size_t sample, std::mt19937_64& generator);

}  // namespace moekit::study
