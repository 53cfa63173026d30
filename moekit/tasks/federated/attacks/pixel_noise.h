#pragma once

#include "moekit/tasks/federated/attack_kinds.h"

namespace moekit::federated {

/// Largest noise of the released code; truncated to a byte it leaves nothing of an image.
inline constexpr int64_t kReleasedNoise = 1023;

struct PixelNoiseOptions : AttackerOptions {
  int64_t noise = kReleasedNoise;

  template <typename Field>
  void visit(Field&& field) {
    AttackerOptions::visit(field);
    field("noise", noise, "largest number added to a byte, truncated", at_least(1, 65535));
  }
};

/// Trains on images with uniform noise.
/// Source: Parsaeefard, Etesami, Leon-Garcia 2021, arXiv:2104.11700, released code (the corruption
/// of shares that are not pure).
class PixelNoise : public Attack {
 public:
  explicit PixelNoise(const PixelNoiseOptions& options) : Attack(options), noise_(options.noise) {}
  void poison(data::ImageSet& set, int64_t num_classes, uint64_t seed) const override;

 private:
  int64_t noise_;
};

void check_pixel_noise(const PixelNoiseOptions& options, const AttackSite& site,
                       const std::string& where);
std::unique_ptr<Attack> make_pixel_noise(const PixelNoiseOptions& options, const AttackSite& site);

}  // namespace moekit::federated
