#pragma once

#include <string>
#include <vector>

#include "moekit/study/results.h"

namespace moekit::study {

enum class Verdict {
  kHeld,          ///< the effect's interval lies on the claimed side
  kContradicted,  ///< on the other side
  kUndecided,     ///< it covers the bound, or there are fewer than `kLeastSeeds`
  kNotTested,
};

/// One comparison of a claim.
struct CheckResult {
  std::string text;  ///< "a.error < b.error"
  Estimate effect;   ///< left - factor * right - offset; claimed below zero, or above it
  bool below = true;
  Verdict verdict = Verdict::kNotTested;
  std::string detail;  ///< the effect, its interval and seeds, or why it was not tested
};
struct ClaimResult {
  std::string text;
  std::string source;
  Verdict verdict = Verdict::kNotTested;
  std::vector<CheckResult> checks;
  std::string detail;  ///< of all checks
};

/// Decides a claim seed by seed: both rows of a check count with the seeds that both have. All
/// checks have to hold; one that is contradicted contradicts the claim.
/// @param allow_missing  also where a row lacks seeds; without, such a claim is not tested
ClaimResult judge(const Claim& claim, const std::vector<Figure>& figures,
                  const std::vector<RowResult>& rows, bool allow_missing);

/// How many claims came out which way, and how many would by chance.
struct Tally {
  size_t held = 0;
  size_t contradicted = 0;
  size_t undecided = 0;
  size_t not_tested = 0;
  size_t checks = 0;  ///< of those that were tested

  size_t tested() const { return held + contradicted + undecided; }
};
Tally tally(const std::vector<ClaimResult>& claims);

/// "12 claims tested in 17 comparisons: ...; were there no effect at all, 0.4 comparisons would be
/// decided as claimed by chance, and as many against". @param looks  how often intervals were
/// looked at while seeds were added: each gives chance another opportunity
std::string describe(const Tally& tally, size_t looks);

/// How the figures stand that have a value of the paper: "16 figures ...: 12 reproduced, ...".
/// Empty where there are none.
std::string describe_standings(const std::vector<RowResult>& rows);

}  // namespace moekit::study

template <>
struct moekit::EnumNames<moekit::study::Verdict> {
  static constexpr std::array<std::pair<study::Verdict, std::string_view>, 4> kTable{{
      {study::Verdict::kHeld, "held"},
      {study::Verdict::kContradicted, "contradicted"},
      {study::Verdict::kUndecided, "undecided"},
      {study::Verdict::kNotTested, "not tested"},
  }};
};
