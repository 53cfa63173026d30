#pragma once

#include <memory>
#include <string>
#include <vector>

#include "moekit/core/field_rule.h"
#include "moekit/core/kinds.h"
#include "moekit/data/image_dataset.h"
#include "moekit/merge/aggregate.h"
#include "moekit/nn/experts/mlp_experts.h"

namespace moekit::federated {

/// Keys of every attack.
struct AttackerOptions {
  int64_t attackers = 50;
  bool pure = true;

  template <typename Field>
  void visit(Field&& field) {
    field("attackers", attackers, "users that attack, fewer than all", at_least(1));
    field("pure", pure, "whether what attackers hand over to the server is clean");
  }
};

/// What an attacker finds in a round.
struct AttackRound {
  merge::WeightSet current;  ///< the global weights w_g
  merge::WeightSet past;     ///< w_g of `Attack::memory` rounds ago, or the first; empty for 0
  nn::MlpExpertsOptions net;
  uint64_t seed = 0;  ///< of this user in this round
};

/// What some users do. They either train as all do, on data that were changed before, or return
/// weights of their own making.
class Attack {
 public:
  explicit Attack(const AttackerOptions& options)
      : attackers_(options.attackers), pure_(options.pure) {}
  virtual ~Attack() = default;
  int64_t attackers() const { return attackers_; }
  bool pure() const { return pure_; }

  /// Changes an attacker's samples, once, in place. @param set  of images and labels of its own
  /// @throws ArgumentError for data that cannot be changed so
  virtual void poison(data::ImageSet& set, int64_t num_classes, uint64_t seed) const;
  /// Whether it trains; else `weights` are what it returns.
  virtual bool trains() const { return true; }
  virtual merge::WeightSet weights(const AttackRound& round) const;
  /// How many rounds back it looks.
  virtual int64_t memory() const { return 0; }

 private:
  int64_t attackers_;
  bool pure_;
};

/// What an attack is made for.
struct AttackSite {
  int64_t users = 0;
};

/// The table of attacks.
struct AttackKinds {
  using Row = Kind<std::unique_ptr<Attack>, AttackSite>;
  static constexpr const char* kDefault = "none";
  static constexpr const char* kWhat = "attack";
  static constexpr const char* kDoc = "what some users do";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

/// @throws ArgumentError naming the key where no user is honest.
void check_attackers(const AttackerOptions& options, const AttackSite& site,
                     const std::string& where);

/// Adds uniform whole numbers 0..most to bytes, in place, and keeps the lowest eight bits, as a
/// cast to a byte does: from 255 on an image is noise alone.
/// @throws ArgumentError naming `key` for images that are not bytes
void add_byte_noise(torch::Tensor& images, int64_t most, uint64_t seed, const std::string& key);

}  // namespace moekit::federated
