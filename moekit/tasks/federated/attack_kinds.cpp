#include "moekit/tasks/federated/attack_kinds.h"

#include <torch/torch.h>

#include "moekit/tasks/federated/attacks/label_permutation.h"
#include "moekit/tasks/federated/attacks/pixel_noise.h"
#include "moekit/tasks/federated/attacks/random_model.h"
#include "moekit/tasks/federated/attacks/sign_flip.h"
#include "moekit/tasks/federated/attacks/stale_model.h"
#include "moekit/tensor/generator.h"

namespace moekit::federated {
namespace {

std::unique_ptr<Attack> make_no_attack(const NoOptions&, const AttackSite&) {
  return std::make_unique<Attack>(AttackerOptions{0, true});
}

}  // namespace

void Attack::poison(data::ImageSet& /*set*/, int64_t /*num_classes*/, uint64_t /*seed*/) const {}

merge::WeightSet Attack::weights(const AttackRound& round) const { return round.current; }

const std::vector<AttackKinds::Row>& AttackKinds::rows() {
  static const std::vector<Row> kRows = {
      kind<&make_no_attack>("none", "all users are honest"),
      kind<&make_random_model, &check_attackers>("random", "returns a fresh random model"),
      kind<&make_sign_flip, &check_attackers>("sign_flip", "returns the global model, negated"),
      kind<&make_stale_model, &check_stale_model>("stale", "returns an old global model"),
      kind<&make_label_permutation, &check_label_permutation>("label_permutation",
                                                              "trains on exchanged labels"),
      kind<&make_pixel_noise, &check_pixel_noise>("pixel_noise", "trains on noisy images"),
  };
  return kRows;
}

void check_attackers(const AttackerOptions& options, const AttackSite& site,
                     const std::string& where) {
  MOEKIT_CHECK(options.attackers < site.users, where, ".attackers = ", options.attackers, " of ",
               site.users, " users: all users are attackers");
}

void add_byte_noise(torch::Tensor& images, int64_t most, uint64_t seed, const std::string& key) {
  MOEKIT_CHECK(images.scalar_type() == torch::kUInt8, key,
               ": noise is for images of bytes; the data set holds numbers");
  const auto noise = torch::empty(images.sizes(), torch::kInt32)
                         .random_(0, most + 1, tensor::make_generator(seed));
  images.copy_((images.to(torch::kInt32) + noise).bitwise_and(255));
}

}  // namespace moekit::federated
