#include "moekit/published/rotary_scaling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <string>

#include "moekit/core/error.h"

namespace moekit::published {
namespace {

std::vector<double> plain(const RotaryPositions& of, double theta) {
  std::vector<double> out;
  for (int64_t i = 0; i < of.channels / 2; ++i) {
    out.push_back(
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(of.channels)));
  }
  return out;
}

RotaryFrequencies unscaled(const RotaryPositions& of, const std::string&) {
  return {plain(of, of.theta), 1};
}

RotaryFrequencies linear(const RotaryPositions& of, const std::string&) {
  auto out = plain(of, of.theta);
  for (auto& angle : out) angle /= of.numbers.factor;
  return {out, 1};
}

/// Long waves are stretched, short ones stay, those between in between.
RotaryFrequencies llama3(const RotaryPositions& of, const std::string&) {
  const auto& n = of.numbers;
  const auto original = static_cast<double>(n.original_context);
  auto out = plain(of, of.theta);
  for (auto& angle : out) {
    const double wave = 2 * std::numbers::pi / angle;
    if (wave > original / n.low_freq_factor) {
      angle /= n.factor;
    } else if (wave >= original / n.high_freq_factor) {
      const double s =
          (original / wave - n.low_freq_factor) / (n.high_freq_factor - n.low_freq_factor);
      angle = (1 - s) * angle / n.factor + s * angle;
    }
  }
  return {out, 1};
}

RotaryFrequencies yarn(const RotaryPositions& of, const std::string&) {
  const auto& n = of.numbers;
  const auto channels = static_cast<double>(of.channels);
  const auto channel_of = [&](double turns) {
    return channels *
           std::log(static_cast<double>(n.original_context) / (2 * std::numbers::pi * turns)) /
           (2 * std::log(of.theta));
  };
  double low = channel_of(n.beta_fast);
  double high = channel_of(n.beta_slow);
  if (n.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, channels - 1);
  if (low == high) high += 0.001;  // no division by zero, as in the released code
  auto out = plain(of, of.theta);
  for (size_t i = 0; i < out.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    out[i] = out[i] / n.factor * ramp + out[i] * (1 - ramp);
  }
  double scale = yarn_mscale(n.factor, 1);
  if (n.mscale.value_or(0) != 0 && n.mscale_all_dim.value_or(0) != 0) {
    scale = yarn_mscale(n.factor, *n.mscale) / yarn_mscale(n.factor, *n.mscale_all_dim);
  }
  return {out, n.attention_factor.value_or(scale)};
}

RotaryFrequencies longrope(const RotaryPositions& of, const std::string& where) {
  const auto& n = of.numbers;
  auto out = plain(of, of.theta);
  MOEKIT_CHECK_FORMAT(n.short_factors.size() == out.size(), where,
                      ": rope_scaling.short_factor has ", n.short_factors.size(), " numbers, not ",
                      out.size());
  for (size_t i = 0; i < out.size(); ++i) {
    MOEKIT_CHECK_FORMAT(n.short_factors[i] != 0, where, ": rope_scaling.short_factor has a 0 at ",
                        i);
    out[i] /= n.short_factors[i];
  }
  double scale = 1;
  if (n.short_mscale) {
    scale = *n.short_mscale;
  } else if (n.attention_factor) {
    scale = *n.attention_factor;
  } else if (n.factor > 1 && n.original_context > 1) {
    scale = std::sqrt(1 + std::log(n.factor) / std::log(static_cast<double>(n.original_context)));
  }
  return {out, scale};
}

RotaryFrequencies dynamic(const RotaryPositions& of, const std::string&) {
  const auto size = static_cast<double>(of.channels);
  const double theta = of.theta * std::pow(of.numbers.alpha, size / (size - 2));
  return {plain(of, theta), 1};
}

struct Row {
  const char* name;
  RotaryFrequencies (*make)(const RotaryPositions& of, const std::string& where);
};
constexpr Row kScalings[] = {{"default", unscaled}, {"linear", linear},     {"llama3", llama3},
                             {"yarn", yarn},        {"longrope", longrope}, {"dynamic", dynamic}};

}  // namespace

double yarn_mscale(double factor, double s) {
  return factor <= 1 ? 1 : 0.1 * s * std::log(factor) + 1;
}

RotaryFrequencies rotary_frequencies(const RotaryPositions& positions, const std::string& where) {
  MOEKIT_CHECK_FORMAT(positions.channels >= 2 && positions.channels % 2 == 0, where, ": ",
                      positions.channels, " turned channels a head, an even number is wanted");
  for (const auto& row : kScalings) {
    if (positions.scaling != row.name) continue;
    auto out = row.make(positions, where);
    for (const double angle : out.per_position) {
      MOEKIT_CHECK_FORMAT(std::isfinite(angle) && std::isfinite(out.scale), where,
                          ": rope_scaling of kind ", row.name, " gives positions that are not ",
                          "finite");
    }
    return out;
  }
  std::string known;
  for (const auto& row : kScalings) known += std::string(known.empty() ? "" : ", ") + row.name;
  throw FormatError(concat(where, ": rotary positions scaled as \"", positions.scaling,
                           "\" are not known; known are ", known));
}

}  // namespace moekit::published
