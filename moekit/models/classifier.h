#pragma once

#include <torch/nn/module.h>

#include <memory>
#include <vector>

#include "moekit/core/kinds.h"
#include "moekit/nn/capacity.h"
#include "moekit/nn/expert_kinds.h"
#include "moekit/nn/routed_layer.h"
#include "moekit/nn/router_kinds.h"

namespace moekit::models {

/// What a network for images is made for; known once the data set is.
struct InputShape {
  int64_t channels = 1;
  int64_t height = 28;
  int64_t width = 28;
  int64_t num_classes = 10;

  int64_t pixels() const { return channels * height * width; }
  template <typename Field>
  void visit(Field&& field) {
    field("channels", channels, "", at_least(1));
    field("height", height, "", at_least(1));
    field("width", width, "", at_least(1));
    field("num_classes", num_classes, "C", at_least(1));
  }
};

struct ClassifierOutput {
  torch::Tensor log_probs;               ///< [N, C]
  std::vector<nn::LayerRouting> layers;  ///< of the mixtures
  /// [E, N, C] where experts are classifiers that all ran, else undefined.
  torch::Tensor expert_log_probs;
  torch::Tensor log_gate;  ///< [N, E], log softmax of a classical mixture's router, else undefined

  /// [M] int64, the images that are not masked; undefined: all.
  torch::Tensor rows() const { return layers.empty() ? torch::Tensor() : layers[0].routing.rows; }
};

/// A whole network for images. Its mixtures are listed by nn::routed_layers().
class ClassifierImpl : public torch::nn::Module {
 public:
  /// @param images [N, C, H, W] float32, normalised
  virtual ClassifierOutput forward(const torch::Tensor& images,
                                   const nn::RouterContext& context) = 0;
  /// The loss the network is trained by, without auxiliary losses; a scalar. Of the images that are
  /// not masked. Whatever it needs is in `output`, that of any forward pass.
  virtual torch::Tensor loss(const ClassifierOutput& output, const torch::Tensor& labels) const;
  /// Draws all weights anew: router and experts from streams of their own.
  virtual void reset_parameters(uint64_t router_seed, uint64_t experts_seed) = 0;
  /// Whether one expert answers for each sample outside of training (top-1, stochastic).
  virtual bool is_hard() const { return false; }
};

/// The table of networks that recipes can name. The options of each bring the sections of its
/// experts and its router.
struct ModelKinds {
  using Row = Kind<std::shared_ptr<ClassifierImpl>, InputShape>;
  static constexpr const char* kDefault = "mixture";
  static constexpr const char* kWhat = "kind of model";
  static constexpr const char* kDoc = "one expert, classical mixture, sparse MoE layer or mixture";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

/// Experts on whole images that give class logits.
nn::LayerSite image_site(const InputShape& input, int64_t num_experts);

/// Makes the experts, then a router for them. @param site  its feature size is filled in
struct MixtureParts {
  std::shared_ptr<nn::RouterImpl> router;
  std::shared_ptr<nn::ExpertsImpl> experts;
};
MixtureParts make_parts(const KindSection<nn::RouterKinds>& router,
                        const KindSection<nn::ExpertKinds>& experts, nn::LayerSite site);
/// Checks both sections, "model.expert" and "model.router". @throws ArgumentError naming the key
void check_parts(const KindSection<nn::RouterKinds>& router,
                 const KindSection<nn::ExpertKinds>& experts, nn::LayerSite site,
                 const std::string& where);

/// Refuses a router that a sparse layer's output cannot train, and a capacity that does not go with
/// it, see nn::check_trainable() and nn::check_capacity().
void check_sparse_parts(const nn::RouterImpl& router, const nn::ExpertsImpl& experts,
                        const nn::CapacityOptions& capacity, const std::string& where);

}  // namespace moekit::models
