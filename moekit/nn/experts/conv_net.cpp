#include "moekit/nn/experts/conv_net.h"

#include "moekit/core/error.h"
#include "moekit/nn/conv_maxpool.h"
#include "moekit/nn/grouped_linear.h"

namespace moekit::nn {
namespace {

constexpr double kBatchNormMomentum = 0.1;  // libtorch's defaults
constexpr double kBatchNormEpsilon = 1e-5;

torch::Tensor flat(const torch::Tensor& stacked) { return stacked.flatten(0, 1); }
torch::Tensor vector_of(const torch::Tensor& stacked) {
  return stacked.defined() ? stacked.reshape({-1}) : stacked;
}

}  // namespace

void check_net(const NetOptions& net, const std::vector<int64_t>& input, const std::string& where) {
  int64_t height = input[1];
  int64_t width = input[2];
  for (size_t b = 0; b < net.conv.size(); ++b) {
    const auto& block = net.conv[b];
    MOEKIT_CHECK(block.channels >= 1 && block.kernel_size >= 1 && block.padding >= 0, where,
                 ".conv[", b, "]: channels and kernel_size must be at least 1, padding at least 0");
    height = (height + 2 * block.padding - block.kernel_size + 1) / 2;
    width = (width + 2 * block.padding - block.kernel_size + 1) / 2;
    MOEKIT_CHECK(height >= 1 && width >= 1, where, ".conv[", b, "]: leaves no pixel of a ",
                 input[1], "x", input[2], " image");
  }
  MOEKIT_CHECK(!net.hidden.empty(), where, ".hidden: needs at least one size");
  for (const int64_t size : net.hidden) {
    MOEKIT_CHECK(size >= 1, where, ".hidden: sizes must be at least 1; got ", size);
  }
}

ConvNetOptions conv_net_options(const NetOptions& net, const std::vector<int64_t>& input,
                                int64_t num_networks) {
  return ConvNetOptions(input[0], input[1], input[2])
      .blocks(net.conv)
      .hidden(net.hidden)
      .num_networks(num_networks);
}

ConvNetStackImpl::ConvNetStackImpl(ConvNetOptions options_) : options(std::move(options_)) {
  MOEKIT_CHECK(options.num_networks() >= 1, "ConvNet: num_networks must be at least 1; got ",
               options.num_networks());
  MOEKIT_CHECK(!options.hidden().empty(), "ConvNet: needs at least one fully connected layer");
  for (const int64_t size : options.hidden()) {
    MOEKIT_CHECK(size >= 1, "ConvNet: hidden sizes must be at least 1; got ", size);
  }
  reset();
}

void ConvNetStackImpl::reset() {
  const int64_t e = options.num_networks();
  int64_t channels = options.in_channels();
  int64_t height = options.height();
  int64_t width = options.width();
  blocks.clear();
  layers.clear();
  for (size_t b = 0; b < options.blocks().size(); ++b) {
    const ConvBlock& shape = options.blocks()[b];
    MOEKIT_CHECK(shape.channels >= 1 && shape.kernel_size >= 1 && shape.padding >= 0,
                 "ConvNet: block ", b, " has channels ", shape.channels, ", kernel_size ",
                 shape.kernel_size, ", padding ", shape.padding);
    height = (height + 2 * shape.padding - shape.kernel_size + 1) / 2;
    width = (width + 2 * shape.padding - shape.kernel_size + 1) / 2;
    MOEKIT_CHECK(height >= 1 && width >= 1, "ConvNet: block ", b, " leaves no pixel of a ",
                 options.height(), "x", options.width(), " image");
    const std::string name = "conv" + std::to_string(b) + "_";
    Block block;
    block.weight = register_parameter(
        name + "weight",
        torch::empty({e, shape.channels, channels, shape.kernel_size, shape.kernel_size}));
    block.bias = register_parameter(name + "bias", torch::empty({e, shape.channels}));
    if (shape.batch_norm) {
      const std::string bn = "bn" + std::to_string(b) + "_";
      block.bn_weight = register_parameter(bn + "weight", torch::empty({e, shape.channels}));
      block.bn_bias = register_parameter(bn + "bias", torch::empty({e, shape.channels}));
      block.running_mean = register_buffer(bn + "running_mean", torch::empty({e, shape.channels}));
      block.running_var = register_buffer(bn + "running_var", torch::empty({e, shape.channels}));
    }
    blocks.push_back(std::move(block));
    channels = shape.channels;
  }
  int64_t size = channels * height * width;
  for (size_t l = 0; l < options.hidden().size(); ++l) {
    const std::string name = "fc" + std::to_string(l) + "_";
    const int64_t out = options.hidden()[l];
    layers.push_back({register_parameter(name + "weight", torch::empty({e, out, size})),
                      register_parameter(name + "bias", torch::empty({e, out}))});
    size = out;
  }
  reset_parameters({});
}

void ConvNetStackImpl::reset_parameters(const at::Generator& generator) {
  const torch::NoGradGuard no_grad;
  for (auto& block : blocks) {
    const int64_t fan_in = block.weight[0][0].numel();
    init_uniform_fan_in(block.weight, fan_in, generator);
    init_uniform_fan_in(block.bias, fan_in, generator);
    if (block.bn_weight.defined()) {
      block.bn_weight.fill_(1);
      block.bn_bias.zero_();
      block.running_mean.zero_();
      block.running_var.fill_(1);
    }
  }
  for (auto& layer : layers) {
    init_uniform_fan_in(layer.weight, layer.weight.size(2), generator);
    init_uniform_fan_in(layer.bias, layer.weight.size(2), generator);
  }
}

// Batch normalisation scales and shifts each channel; it is folded into weight and bias of the
// convolution. The batch statistics come from the moments of the patches.
torch::Tensor ConvNetStackImpl::run_first_fused(const Block& block, const torch::Tensor& images) {
  const auto& weight = block.weight;
  const auto& bias = block.bias;
  if (!block.bn_weight.defined()) return conv3x3_maxpool2_relu(images, weight, bias);
  torch::Tensor mean;  // of the convolution without its bias
  torch::Tensor var;
  if (is_training()) {
    const auto moments = patch3x3_moments(images);
    const auto w = weight.flatten(2).to(torch::kFloat64);
    const auto exact_var = (w.matmul(moments.covariance) * w).sum(2).clamp_min(0);
    const auto exact_mean = w.matmul(moments.mean);
    mean = exact_mean.to(torch::kFloat32);
    var = exact_var.to(torch::kFloat32);
    const torch::NoGradGuard no_grad;
    const double count =
        static_cast<double>(images.size(0) * (images.size(2) - 2) * (images.size(3) - 2));
    block.running_mean.lerp_(mean + bias, kBatchNormMomentum);
    block.running_var.lerp_(var * (count / std::max(count - 1, 1.0)), kBatchNormMomentum);
  } else {
    mean = block.running_mean - bias;
    var = block.running_var;
  }
  const auto factor = block.bn_weight * torch::rsqrt(var + kBatchNormEpsilon);
  const auto offset = block.bn_bias - mean * factor;
  return conv3x3_maxpool2_relu(images, weight * factor.unflatten(1, {-1, 1, 1, 1}), offset);
}

torch::Tensor ConvNetStackImpl::run_block(size_t index, const Block& block, const torch::Tensor& x,
                                          int64_t groups) {
  const ConvBlock& shape = options.blocks()[index];
  auto y = torch::conv2d(x, flat(block.weight), vector_of(block.bias), 1, shape.padding, 1, groups);
  if (block.bn_weight.defined()) {
    y = torch::batch_norm(y, vector_of(block.bn_weight), vector_of(block.bn_bias),
                          vector_of(block.running_mean), vector_of(block.running_var),
                          is_training(), kBatchNormMomentum, kBatchNormEpsilon, false);
  }
  return torch::max_pool2d(torch::relu(y), 2);
}

torch::Tensor ConvNetStackImpl::run_blocks(const std::vector<Block>& stack,
                                           const torch::Tensor& images) {
  const int64_t networks = stack[0].weight.size(0);
  const ConvBlock& first = options.blocks()[0];
  torch::Tensor x;  // [N, E * c, h, w]
  if (can_fuse_conv3x3(images, first.kernel_size, first.padding)) {
    const auto pooled = run_first_fused(stack[0], images);  // [E, N, c, h, w]
    if (stack.size() == 1) return pooled.flatten(2);
    x = pooled.transpose(0, 1).flatten(1, 2);
  } else {
    x = run_block(0, stack[0], images, 1);  // the images are shared by all networks
  }
  for (size_t b = 1; b < stack.size(); ++b) x = run_block(b, stack[b], x, networks);
  return x.reshape({images.size(0), networks, -1}).transpose(0, 1);
}

torch::Tensor ConvNetStackImpl::forward(const torch::Tensor& images) {
  MOEKIT_CHECK(images.dim() == 4 && images.size(1) == options.in_channels() &&
                   images.size(2) == options.height() && images.size(3) == options.width(),
               "ConvNet: images must be [N, ", options.in_channels(), ", ", options.height(), ", ",
               options.width(), "]; got ", images.sizes());
  torch::Tensor hidden = blocks.empty() ? images.flatten(1) : run_blocks(blocks, images);
  for (size_t l = 0; l < layers.size(); ++l) {
    if (l > 0) hidden = torch::relu(hidden);
    hidden = stacked_linear(hidden, layers[l].weight, layers[l].bias);
  }
  return hidden;
}

torch::Tensor ConvNetStackImpl::forward_routed(const torch::Tensor& images,
                                               const std::vector<int64_t>& offsets) {
  MOEKIT_CHECK(static_cast<int64_t>(offsets.size()) == options.num_networks() + 1,
               "ConvNet: offsets must have ", options.num_networks() + 1, " entries; got ",
               offsets.size());
  // unbind: its backward stacks the networks' gradients once, zeros where there is none.
  const auto split = [](const torch::Tensor& stacked) {
    return stacked.defined() ? stacked.unsqueeze(1).unbind(0) : std::vector<torch::Tensor>{};
  };
  const auto at_or_none = [](const std::vector<torch::Tensor>& parts, size_t e) {
    return parts.empty() ? torch::Tensor() : parts[e];
  };
  torch::Tensor hidden = images;
  if (!blocks.empty()) {
    struct Parts {
      std::vector<torch::Tensor> weight, bias, bn_weight, bn_bias, running_mean, running_var;
    };
    std::vector<Parts> parts;
    for (const auto& block : blocks) {
      parts.push_back({split(block.weight), split(block.bias), split(block.bn_weight),
                       split(block.bn_bias), split(block.running_mean), split(block.running_var)});
    }
    std::vector<torch::Tensor> outputs;
    for (size_t e = 0; e + 1 < offsets.size(); ++e) {
      if (offsets[e + 1] == offsets[e]) continue;
      std::vector<Block> own;
      for (const Parts& part : parts) {
        own.push_back({part.weight[e], part.bias[e], at_or_none(part.bn_weight, e),
                       at_or_none(part.bn_bias, e), at_or_none(part.running_mean, e),
                       at_or_none(part.running_var, e)});
      }
      const auto rows = images.narrow(0, offsets[e], offsets[e + 1] - offsets[e]);
      outputs.push_back(run_blocks(own, rows).squeeze(0));
    }
    hidden =
        outputs.empty() ? images.new_empty({0, layers[0].weight.size(2)}) : torch::cat(outputs);
  }
  hidden = hidden.flatten(1);
  for (size_t l = 0; l < layers.size(); ++l) {
    if (l > 0) hidden = torch::relu(hidden);
    hidden = grouped_linear(hidden, layers[l].weight, layers[l].bias, offsets);
  }
  return hidden;
}

ConvTrunkImpl::ConvTrunkImpl(ConvNetOptions options_, bool final_relu_)
    : options(std::move(options_)), final_relu(final_relu_) {
  MOEKIT_CHECK(options.num_networks() == 1, "ConvTrunk: is one network; got num_networks ",
               options.num_networks());
  reset();
}

void ConvTrunkImpl::reset() { net = register_module("net", ConvNetStack(options)); }

void ConvTrunkImpl::reset_parameters(const at::Generator& generator) {
  net->reset_parameters(generator);
}

torch::Tensor ConvTrunkImpl::forward(const torch::Tensor& images) {
  const auto features = net->forward(images).squeeze(0);
  return final_relu ? torch::relu(features) : features;
}

std::vector<HiddenUnits> ConvNetStackImpl::hidden_units(const std::string& prefix) const {
  const auto name = [&](const char* kind, size_t index, const char* what) {
    return concat(prefix, kind, index, what);
  };
  std::vector<HiddenUnits> all;
  for (size_t b = 0; b < blocks.size(); ++b) {
    HiddenUnits units{options.blocks()[b].channels,
                      {{name("conv", b, "_weight"), 0}, {name("conv", b, "_bias"), 0}}};
    if (blocks[b].bn_weight.defined()) {
      for (const char* what : {"_weight", "_bias", "_running_mean", "_running_var"}) {
        units.axes.push_back({name("bn", b, what), 0});
      }
    }
    if (b + 1 < blocks.size()) {
      units.axes.push_back({name("conv", b + 1, "_weight"), 1});
    } else {
      const int64_t pixels = layers[0].weight.size(2) / units.count;  // channel after channel
      units.axes.push_back({name("fc", 0, "_weight"), 1, 0, pixels});
    }
    all.push_back(std::move(units));
  }
  for (size_t l = 0; l < layers.size(); ++l) {
    HiddenUnits units{options.hidden()[l],
                      {{name("fc", l, "_weight"), 0}, {name("fc", l, "_bias"), 0}}};
    if (l + 1 < layers.size()) units.axes.push_back({name("fc", l + 1, "_weight"), 1});
    all.push_back(std::move(units));
  }
  return all;
}

void ConvNetStackImpl::take_networks(ExpertEdit& edit) {
  for (Block& block : blocks) {
    for (auto* tensor : {&block.weight, &block.bias, &block.bn_weight, &block.bn_bias,
                         &block.running_mean, &block.running_var}) {
      edit.take_rows(*tensor);
    }
  }
  for (Layer& layer : layers) {
    edit.take_rows(layer.weight);
    edit.take_rows(layer.bias);
  }
  edit.then([this, networks = edit.index.numel()] { options.num_networks(networks); });
}

}  // namespace moekit::nn
