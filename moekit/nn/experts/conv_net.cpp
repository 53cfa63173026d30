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

// Bias, batch normalisation and ReLU act on each channel alone and do not change the order of
// values (or reverse it, where the scale is negative), so they may follow the pool; the batch
// statistics come from the moments of the patches.
torch::Tensor ConvNetStackImpl::run_first_fused(const Block& block, const torch::Tensor& images) {
  const auto weight = flat(block.weight);
  const auto channels_last = [](const torch::Tensor& v) { return v.reshape({1, -1, 1, 1}); };
  if (!block.bn_weight.defined()) {
    return torch::relu(conv3x3_maxpool2(images, weight) + channels_last(block.bias));
  }
  const auto scale = vector_of(block.bn_weight);
  const auto sign = torch::where(scale.detach() < 0, -torch::ones_like(scale.detach()),
                                 torch::ones_like(scale.detach()));
  const auto extreme =
      conv3x3_maxpool2(images, weight * sign.reshape({-1, 1, 1, 1})) * channels_last(sign);
  const auto bias = vector_of(block.bias);
  torch::Tensor mean;  // of the convolution without its bias
  torch::Tensor var;
  if (is_training()) {
    const auto moments = patch3x3_moments(images);
    const auto w = weight.reshape({-1, 9}).to(torch::kFloat64);
    const auto exact_var = (w.matmul(moments.covariance) * w).sum(1).clamp_min(0);
    const auto exact_mean = w.matmul(moments.mean);
    mean = exact_mean.to(torch::kFloat32);
    var = exact_var.to(torch::kFloat32);
    const torch::NoGradGuard no_grad;
    const double count =
        static_cast<double>(images.size(0) * (images.size(2) - 2) * (images.size(3) - 2));
    block.running_mean.lerp_((mean + bias).reshape(block.running_mean.sizes()), kBatchNormMomentum);
    block.running_var.lerp_(
        (var * (count / std::max(count - 1, 1.0))).reshape(block.running_var.sizes()),
        kBatchNormMomentum);
  } else {
    mean = vector_of(block.running_mean) - bias;
    var = vector_of(block.running_var);
  }
  const auto factor = scale * torch::rsqrt(var + kBatchNormEpsilon);
  const auto offset = vector_of(block.bn_bias) - mean * factor;
  return torch::relu(extreme * channels_last(factor) + channels_last(offset));
}

torch::Tensor ConvNetStackImpl::run_block(size_t index, const Block& block, const torch::Tensor& x,
                                          int64_t groups) {
  const ConvBlock& shape = options.blocks()[index];
  if (index == 0 && can_fuse_conv3x3(x, shape.kernel_size, shape.padding)) {
    return run_first_fused(block, x);
  }
  auto y = torch::conv2d(x, flat(block.weight), vector_of(block.bias), 1, shape.padding, 1, groups);
  if (block.bn_weight.defined()) {
    y = torch::batch_norm(y, vector_of(block.bn_weight), vector_of(block.bn_bias),
                          vector_of(block.running_mean), vector_of(block.running_var),
                          is_training(), kBatchNormMomentum, kBatchNormEpsilon, false);
  }
  return torch::max_pool2d(torch::relu(y), 2);
}

torch::Tensor ConvNetStackImpl::forward(const torch::Tensor& images) {
  MOEKIT_CHECK(images.dim() == 4 && images.size(1) == options.in_channels() &&
                   images.size(2) == options.height() && images.size(3) == options.width(),
               "ConvNet: images must be [N, ", options.in_channels(), ", ", options.height(), ", ",
               options.width(), "]; got ", images.sizes());
  const int64_t e = options.num_networks();
  const int64_t n = images.size(0);
  auto x = images;
  for (size_t b = 0; b < blocks.size(); ++b) {
    x = run_block(b, blocks[b], x, b == 0 ? 1 : e);  // the images are shared by all networks
  }
  torch::Tensor hidden =
      blocks.empty() ? x.reshape({n, -1}) : x.reshape({n, e, -1}).transpose(0, 1);
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
      auto x = images.narrow(0, offsets[e], offsets[e + 1] - offsets[e]);
      for (size_t b = 0; b < blocks.size(); ++b) {
        const Block own{parts[b].weight[e],
                        parts[b].bias[e],
                        at_or_none(parts[b].bn_weight, e),
                        at_or_none(parts[b].bn_bias, e),
                        at_or_none(parts[b].running_mean, e),
                        at_or_none(parts[b].running_var, e)};
        x = run_block(b, own, x, 1);
      }
      outputs.push_back(x.flatten(1));
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
  options.num_networks(edit.index.numel());
}

}  // namespace moekit::nn
