#include "moekit/nn/conv_maxpool.h"

#include <torch/autograd.h>

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/kernels/conv/conv_maxpool.h"
#include "moekit/nn/runtime.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::nn {
namespace {

// Images a thread takes at once; the sums of blocks are added in order, so that the gradient is
// the same for every number of threads.
constexpr int64_t kBlock = 64;

int64_t count_blocks(int64_t images) { return (images + kBlock - 1) / kBlock; }

/// work(block, its first image, the shape of its images alone) for all blocks of a batch.
template <typename Work>
void for_blocks(const kernels::ConvPoolShape& shape, const Work& work) {
  Runtime::standard()->run([&](const kernels::Execution& execution) {
    execution.pool->run(count_blocks(shape.batch), [&](int64_t block, int) {
      const int64_t begin = block * kBlock;
      auto part = shape;
      part.batch = std::min(kBlock, shape.batch - begin);
      work(block, begin, part);
    });
  });
}

kernels::ConvPoolShape shape_of(const torch::Tensor& images, int64_t networks, int64_t channels) {
  return {images.size(0),      images.size(2), images.size(3),
          networks * channels, networks,       images.size(0)};
}

class ConvMaxPoolRelu : public torch::autograd::Function<ConvMaxPoolRelu> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& images,
                               const torch::Tensor& weight, const torch::Tensor& bias) {
    const auto shape = shape_of(images, weight.size(0), weight.size(1));
    const auto w = weight.contiguous();
    const auto b = bias.contiguous();
    auto output = torch::empty(
        {weight.size(0), shape.batch, weight.size(1), shape.pooled_height(), shape.pooled_width()},
        images.options());
    auto source = torch::empty(output.sizes(), images.options().dtype(torch::kUInt8));
    const int64_t image_size = shape.height * shape.width;
    const int64_t output_size = shape.output_at(1, 0);
    for_blocks(shape, [&](int64_t, int64_t begin, const kernels::ConvPoolShape& part) {
      kernels::conv3x3_maxpool2_relu_forward(part, images.data_ptr<float>() + begin * image_size,
                                             w.data_ptr<float>(), b.data_ptr<float>(),
                                             output.data_ptr<float>() + begin * output_size,
                                             source.data_ptr<uint8_t>() + begin * output_size);
    });
    tensor::count_operations(2.0 * 9 * static_cast<double>(shape.batch * shape.channels) *
                             static_cast<double>((shape.height - 2) * (shape.width - 2)));
    ctx->save_for_backward({images, source});
    ctx->saved_data["networks"] = weight.size(0);
    ctx->saved_data["channels"] = weight.size(1);
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& images = saved[0];
    const auto& source = saved[1];
    const int64_t networks = ctx->saved_data["networks"].toInt();
    const int64_t channels = ctx->saved_data["channels"].toInt();
    if (at::GradMode::is_enabled()) return composed_backward(images, source, grads[0]);
    const auto gradient = grads[0].contiguous();
    const auto shape = shape_of(images, networks, channels);
    const int64_t image_size = shape.height * shape.width;
    const int64_t output_size = shape.output_at(1, 0);
    const int64_t blocks = count_blocks(shape.batch);
    auto weight_sums = torch::zeros({blocks, shape.channels, 9}, torch::kFloat64);
    auto bias_sums = torch::zeros({blocks, shape.channels}, torch::kFloat64);
    for_blocks(shape, [&](int64_t block, int64_t begin, const kernels::ConvPoolShape& part) {
      kernels::conv3x3_maxpool2_relu_backward(
          part, images.data_ptr<float>() + begin * image_size,
          gradient.data_ptr<float>() + begin * output_size,
          source.data_ptr<uint8_t>() + begin * output_size,
          weight_sums.data_ptr<double>() + block * shape.channels * 9,
          bias_sums.data_ptr<double>() + block * shape.channels);
    });
    const auto dtype = gradient.scalar_type();
    return {torch::Tensor(), weight_sums.sum(0).to(dtype).reshape({networks, channels, 1, 3, 3}),
            bias_sums.sum(0).to(dtype).reshape({networks, channels})};
  }

 private:
  /// The same gradients as operations that can be differentiated again. They are linear in `grad`
  /// and do not depend on weight and bias, as long as the maxima stay where they are.
  static torch::autograd::variable_list composed_backward(const torch::Tensor& images,
                                                          const torch::Tensor& source,
                                                          const torch::Tensor& grad) {
    const int64_t pooled_width = grad.size(4);
    const int64_t width = images.size(3) - 2;  // of the convolution
    const auto let_through = grad * source.lt(4);
    const auto in_window = source.to(torch::kLong).clamp_max(3);
    const auto row = 2 * torch::arange(grad.size(3)).unsqueeze(1) +
                     torch::div(in_window, 2, /*rounding_mode=*/"floor");
    const auto column = 2 * torch::arange(pooled_width) + torch::remainder(in_window, 2);
    auto sizes = grad.sizes().vec();  // [E, N, C, all places of the convolution]
    sizes.resize(4);
    sizes[3] = (images.size(2) - 2) * width;
    const auto at_place =
        torch::zeros(sizes, grad.options())
            .scatter(3, (row * width + column).flatten(3), let_through.flatten(3));
    const auto patches =  // [N * places, 9]
        images.squeeze(1).unfold(1, 3, 1).unfold(2, 3, 1).reshape({-1, 9});
    const auto of_weight = at_place.transpose(1, 2).flatten(2).matmul(patches);
    return {torch::Tensor(), of_weight.unflatten(2, {1, 3, 3}), let_through.sum({1, 3, 4})};
  }
};

void check_images(const torch::Tensor& images, const char* who) {
  MOEKIT_CHECK(
      images.dim() == 4 && images.size(1) == 1 && images.size(2) >= 4 && images.size(3) >= 4, who,
      ": images must be [N, 1, H >= 4, W >= 4]; got ", images.sizes());
}

}  // namespace

bool can_fuse_conv3x3(const torch::Tensor& images, int64_t kernel_size, int64_t padding) {
  return kernel_size == 3 && padding == 0 && images.dim() == 4 && images.size(1) == 1 &&
         images.size(2) >= 4 && images.size(3) >= 4 && images.scalar_type() == torch::kFloat32 &&
         images.device().is_cpu() && images.is_contiguous() && !images.requires_grad();
}

torch::Tensor conv3x3_maxpool2_relu(const torch::Tensor& images, const torch::Tensor& weight,
                                    const torch::Tensor& bias) {
  check_images(images, "conv3x3_maxpool2_relu");
  MOEKIT_CHECK(
      weight.dim() == 5 && weight.size(2) == 1 && weight.size(3) == 3 && weight.size(4) == 3,
      "conv3x3_maxpool2_relu: weight must be [E, C, 1, 3, 3]; got ", weight.sizes());
  MOEKIT_CHECK(bias.dim() == 2 && bias.size(0) == weight.size(0) && bias.size(1) == weight.size(1),
               "conv3x3_maxpool2_relu: bias must be [", weight.size(0), ", ", weight.size(1),
               "]; got ", bias.sizes());
  if (can_fuse_conv3x3(images, 3, 0) && weight.scalar_type() == torch::kFloat32 &&
      bias.scalar_type() == torch::kFloat32) {
    return ConvMaxPoolRelu::apply(images, weight, bias);
  }
  const auto all = torch::conv2d(images, weight.flatten(0, 1), bias.flatten());
  return torch::relu(torch::max_pool2d(all, 2))
      .unflatten(1, {weight.size(0), weight.size(1)})
      .transpose(0, 1);
}

PatchMoments patch3x3_moments(const torch::Tensor& images) {
  check_images(images, "patch3x3_moments");
  const auto x = images.detach().to(torch::kFloat32).contiguous();
  const auto shape = shape_of(x, 1, 1);
  const int64_t blocks = count_blocks(shape.batch);
  auto sums = torch::zeros({blocks, 9}, torch::kFloat64);
  auto products = torch::zeros({blocks, 9, 9}, torch::kFloat64);
  for_blocks(shape, [&](int64_t block, int64_t begin, const kernels::ConvPoolShape& part) {
    kernels::patch3x3_moments(part, x.data_ptr<float>() + begin * shape.height * shape.width,
                              sums.data_ptr<double>() + block * 9,
                              products.data_ptr<double>() + block * 81);
  });
  const double count = static_cast<double>(shape.batch * (shape.height - 2) * (shape.width - 2));
  const auto mean = sums.sum(0) / count;
  return {mean, products.sum(0) / count - torch::outer(mean, mean)};
}

}  // namespace moekit::nn
