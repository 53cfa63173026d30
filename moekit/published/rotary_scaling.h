#pragma once

#include <vector>

#include "moekit/published/architecture.h"

namespace moekit::published {

/// Angles a position for each pair of channels, and what cosines and sines are multiplied with.
struct RotaryFrequencies {
  std::vector<double> per_position;  ///< [channels / 2]
  double scale = 1;
};

/// 0.1 s ln(factor) + 1. Source: Peng et al. 2023, arXiv:2309.00071, section 3.4.
double yarn_mscale(double factor, double s);

/// Of all scalings: none, linear, llama3 (Llama 3.1's released code), yarn (arXiv:2309.00071),
/// longrope (arXiv:2402.13753, of texts within the original context), dynamic with alpha.
/// @throws FormatError naming `where` for another one, or lists of another length
RotaryFrequencies rotary_frequencies(const RotaryPositions& positions, const std::string& where);

}  // namespace moekit::published
