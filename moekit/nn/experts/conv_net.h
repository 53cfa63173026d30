#pragma once

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <string>
#include <vector>

#include "moekit/core/field_rule.h"
#include "moekit/nn/expert_edit.h"
#include "moekit/nn/hidden_units.h"
#include "moekit/nn/initialization.h"

namespace moekit::nn {

/// One convolution block: convolution (stride 1), batch normalisation if asked, ReLU, 2x2 pool.
struct ConvBlock {
  int64_t channels = 1;
  int64_t kernel_size = 3;
  int64_t padding = 0;
  bool batch_norm = false;

  template <typename Field>
  void visit(Field&& field) {
    field("channels", channels, "output channels of each network", at_least(1));
    field("kernel_size", kernel_size, "", at_least(1));
    field("padding", padding, "zeros on each side", at_least(0));
    field("batch_norm", batch_norm, "normalise before the ReLU");
  }
};

/// Options of `ConvNetStack`. Example: `ConvNetOptions(1, 28, 28).blocks({{1}}).hidden({5, 32})`.
struct ConvNetOptions {
  using Blocks = std::vector<ConvBlock>;
  using Sizes = std::vector<int64_t>;
  ConvNetOptions(int64_t in_channels, int64_t height, int64_t width)
      : in_channels_(in_channels), height_(height), width_(width) {}
  TORCH_ARG(int64_t, in_channels);
  TORCH_ARG(int64_t, height);
  TORCH_ARG(int64_t, width);
  TORCH_ARG(Blocks, blocks);             ///< convolution blocks, may be empty
  TORCH_ARG(Sizes, hidden);              ///< fully connected layers after them, at least one
  TORCH_ARG(int64_t, num_networks) = 1;  ///< E
};

/// Such a network as a recipe says it, whatever its input.
struct NetOptions {
  std::vector<ConvBlock> conv;
  std::vector<int64_t> hidden;

  template <typename Field>
  void visit(Field&& field) {
    field("conv", conv, "blocks { channels, kernel_size, padding, batch_norm }");
    field("hidden", hidden, "fully connected layers; the last gives the features h", at_least(1));
  }
};

/// @param input  {C, H, W} @throws ArgumentError naming the key below `where`.
void check_net(const NetOptions& net, const std::vector<int64_t>& input, const std::string& where);
ConvNetOptions conv_net_options(const NetOptions& net, const std::vector<int64_t>& input,
                                int64_t num_networks);

/// E small convolutional networks of one shape, run side by side: convolutions as grouped
/// convolutions over E * channels, fully connected layers as batched products. ReLU between the
/// fully connected layers, none after the last: its output are the features h.
/// A first block with 3x3 kernels on one-channel images runs as one fused pass.
class ConvNetStackImpl : public torch::nn::Cloneable<ConvNetStackImpl>, public Initializable {
 public:
  /// @throws ArgumentError when a block leaves no pixel, or a size is below 1.
  explicit ConvNetStackImpl(ConvNetOptions options);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  /// @param images  [N, in_channels, height, width]
  /// @return [E, N, h]
  torch::Tensor forward(const torch::Tensor& images);
  /// Network e alone on rows offsets[e] .. offsets[e+1]-1 of `images`. @return [A, h]
  torch::Tensor forward_routed(const torch::Tensor& images, const std::vector<int64_t>& offsets);
  /// The networks of `edit.index` become its networks.
  void take_networks(ExpertEdit& edit);
  /// Channels of each block, then the outputs of each fully connected layer: the last ones are the
  /// features. @param prefix  of the tensors' names
  std::vector<HiddenUnits> hidden_units(const std::string& prefix) const;
  int64_t feature_size() const { return options.hidden().back(); }
  int64_t num_networks() const { return options.num_networks(); }

  ConvNetOptions options;
  /// Per block: weight [E, c, c_in, k, k], bias [E, c]; per fully connected layer: weight
  /// [E, out, in], bias [E, out]; with batch normalisation scale, shift and running statistics
  /// [E, c]. Registered as "conv0_weight", "bn0_weight", "bn0_running_mean", "fc0_weight", ...
  struct Block {
    torch::Tensor weight, bias, bn_weight, bn_bias, running_mean, running_var;
  };
  struct Layer {
    torch::Tensor weight, bias;
  };
  std::vector<Block> blocks;
  std::vector<Layer> layers;

 private:
  torch::Tensor run_block(size_t index, const Block& block, const torch::Tensor& x, int64_t groups);
  torch::Tensor run_first_fused(const Block& block, const torch::Tensor& images);
  /// All blocks of some networks on the same images. @return [E, N, values after the last]
  torch::Tensor run_blocks(const std::vector<Block>& stack, const torch::Tensor& images);
};
TORCH_MODULE(ConvNetStack);

/// One network as a router's trunk: [N, C, H, W] -> [N, h], with a ReLU at the end if asked.
class ConvTrunkImpl : public torch::nn::Cloneable<ConvTrunkImpl>, public Initializable {
 public:
  ConvTrunkImpl(ConvNetOptions options, bool final_relu);
  void reset() override;
  void reset_parameters(const at::Generator& generator) override;
  torch::Tensor forward(const torch::Tensor& images);

  ConvNetOptions options;
  bool final_relu;
  ConvNetStack net{nullptr};
};
TORCH_MODULE(ConvTrunk);

}  // namespace moekit::nn
