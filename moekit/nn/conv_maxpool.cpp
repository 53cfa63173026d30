#include "moekit/nn/conv_maxpool.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>

#include "moekit/core/error.h"
#include "moekit/kernels/conv_maxpool.h"

namespace moekit::nn {
namespace {

// Images a thread takes at once; the sums of blocks are added in order, so that the gradient is
// the same for every number of threads.
constexpr int64_t kBlock = 64;

kernels::ConvPoolShape shape_of(const torch::Tensor& images, int64_t channels) {
  return {images.size(0), images.size(2), images.size(3), channels};
}

class ConvMaxPool : public torch::autograd::Function<ConvMaxPool> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* ctx, const torch::Tensor& images,
                               const torch::Tensor& weight) {
    const auto shape = shape_of(images, weight.size(0));
    const auto w = weight.contiguous();
    auto output =
        torch::empty({shape.batch, shape.channels, shape.pooled_height(), shape.pooled_width()},
                     images.options());
    auto argmax = torch::empty(output.sizes(), images.options().dtype(torch::kUInt8));
    const int64_t image_size = shape.height * shape.width;
    const int64_t output_size = output.numel() / std::max<int64_t>(shape.batch, 1);
    at::parallel_for(0, shape.batch, kBlock, [&](int64_t begin, int64_t end) {
      auto part = shape;
      part.batch = end - begin;
      kernels::conv3x3_maxpool2_forward(part, images.data_ptr<float>() + begin * image_size,
                                        w.data_ptr<float>(),
                                        output.data_ptr<float>() + begin * output_size,
                                        argmax.data_ptr<uint8_t>() + begin * output_size);
    });
    ctx->save_for_backward({images, argmax});
    ctx->saved_data["channels"] = shape.channels;
    return output;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const auto& images = saved[0];
    const auto& argmax = saved[1];
    const auto gradient = grads[0].contiguous();
    const auto shape = shape_of(images, ctx->saved_data["channels"].toInt());
    const int64_t image_size = shape.height * shape.width;
    const int64_t output_size = gradient.numel() / std::max<int64_t>(shape.batch, 1);
    const int64_t blocks = (shape.batch + kBlock - 1) / kBlock;
    auto sums = torch::zeros({blocks, shape.channels, 9}, torch::kFloat64);
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        const int64_t begin = block * kBlock;
        auto part = shape;
        part.batch = std::min(kBlock, shape.batch - begin);
        kernels::conv3x3_maxpool2_backward(part, images.data_ptr<float>() + begin * image_size,
                                           gradient.data_ptr<float>() + begin * output_size,
                                           argmax.data_ptr<uint8_t>() + begin * output_size,
                                           sums.data_ptr<double>() + block * shape.channels * 9);
      }
    });
    const auto grad_weight =
        sums.sum(0).to(gradient.scalar_type()).reshape({shape.channels, 1, 3, 3});
    return {torch::Tensor(), grad_weight};
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

torch::Tensor conv3x3_maxpool2(const torch::Tensor& images, const torch::Tensor& weight) {
  check_images(images, "conv3x3_maxpool2");
  MOEKIT_CHECK(
      weight.dim() == 4 && weight.size(1) == 1 && weight.size(2) == 3 && weight.size(3) == 3,
      "conv3x3_maxpool2: weight must be [C, 1, 3, 3]; got ", weight.sizes());
  if (can_fuse_conv3x3(images, 3, 0) && weight.scalar_type() == torch::kFloat32) {
    return ConvMaxPool::apply(images, weight);
  }
  return torch::max_pool2d(torch::conv2d(images, weight), 2);
}

PatchMoments patch3x3_moments(const torch::Tensor& images) {
  check_images(images, "patch3x3_moments");
  const auto x = images.detach().to(torch::kFloat32).contiguous();
  const auto shape = shape_of(x, 0);
  const int64_t blocks = (shape.batch + kBlock - 1) / kBlock;
  auto sums = torch::zeros({blocks, 9}, torch::kFloat64);
  auto products = torch::zeros({blocks, 9, 9}, torch::kFloat64);
  at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      auto part = shape;
      part.batch = std::min(kBlock, shape.batch - block * kBlock);
      kernels::patch3x3_moments(
          part, x.data_ptr<float>() + block * kBlock * shape.height * shape.width,
          sums.data_ptr<double>() + block * 9, products.data_ptr<double>() + block * 81);
    }
  });
  const double count = static_cast<double>(shape.batch * (shape.height - 2) * (shape.width - 2));
  const auto mean = sums.sum(0) / count;
  return {mean, products.sum(0) / count - torch::outer(mean, mean)};
}

}  // namespace moekit::nn
