#include "moekit/tasks/federated/attacks/pixel_noise.h"

namespace moekit::federated {

void PixelNoise::poison(data::ImageSet& set, int64_t /*num_classes*/, uint64_t seed) const {
  add_byte_noise(set.images, noise_, seed, "attack.kind = \"pixel_noise\"");
}

void check_pixel_noise(const PixelNoiseOptions& options, const AttackSite& site,
                       const std::string& where) {
  check_attackers(options, site, where);
}

std::unique_ptr<Attack> make_pixel_noise(const PixelNoiseOptions& options, const AttackSite&) {
  return std::make_unique<PixelNoise>(options);
}

}  // namespace moekit::federated
