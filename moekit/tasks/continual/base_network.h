#pragma once

#include <torch/nn/modules/linear.h>

#include <string>

#include "moekit/core/enum_names.h"
#include "moekit/core/field_rule.h"
#include "moekit/nn/experts/conv_net.h"
#include "moekit/tasks/continual/stream_model.h"

namespace moekit::continual {

/// What tells a task's classes apart.
enum class Head {
  kLinear,      ///< one map for all tasks, which must have the same classes
  kPrototypes,  ///< nearness to the mean features of each class of the task at hand
};

/// The network that a stream starts from, and how it came to its weights.
struct BaseConfig {
  nn::NetOptions net = {{}, {128}};
  std::string train_on = "fashion-mnist";
  int64_t epochs = 5;
  int64_t batch_size = 64;
  double lr = 1e-3;
  Head head = Head::kLinear;
  double scale = 20;

  template <typename Field>
  void visit(Field&& field) {
    field("net", net, "");
    field("train_on", train_on, "task it is trained on before the stream; empty: random weights");
    field("epochs", epochs, "of that", at_least(1));
    field("batch_size", batch_size, "of that", at_least(1));
    field("lr", lr, "of that, by Adam", above(0));
    field("head", head, "one map for all tasks, or nearness to the classes' mean features");
    field("scale", scale, "logits of prototypes: times the cosine", above(0));
  }
};

/// Images [N, 1, S, S] -> features [N, D], D the last of `net.hidden`, after their ReLU -> logits.
/// Prototypes (a buffer) are taken from the features of the tasks' training images before the
/// stream begins: they stand in for the class names that a language model would read.
class BaseNetworkImpl : public torch::nn::Module {
 public:
  BaseNetworkImpl(const BaseConfig& config, const StreamSite& site);
  torch::Tensor features(const torch::Tensor& images);
  /// @param features [N, D] @return [N, classes of the task]
  torch::Tensor logits(const torch::Tensor& features, int64_t task);
  int64_t feature_size() const { return net_->feature_size(); }

 private:
  void pretrain(const BaseConfig& config, const StreamSite& site);
  void take_prototypes(const StreamSite& site);

  nn::ConvNetStack net_{nullptr};
  torch::nn::Linear head_{nullptr};  ///< null for prototypes
  torch::Tensor prototypes_;         ///< [T, most classes, D] of length 1; undefined for a map
  std::vector<int64_t> num_classes_;
  double scale_;
};
TORCH_MODULE(BaseNetwork);

/// @param where  path of its section @throws ArgumentError naming the key
void check_base(const BaseConfig& config, const StreamSite& site, const std::string& where);

/// Images as networks take them. @param images [N, 1, S, S] uint8 @return float, 0..1
torch::Tensor as_input(const torch::Tensor& images);

}  // namespace moekit::continual

template <>
struct moekit::EnumNames<moekit::continual::Head> {
  static constexpr std::array<std::pair<continual::Head, std::string_view>, 2> kTable{{
      {continual::Head::kLinear, "linear"},
      {continual::Head::kPrototypes, "prototypes"},
  }};
};
