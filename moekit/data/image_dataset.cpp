#include "moekit/data/image_dataset.h"

#include <algorithm>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/memory.h"

namespace moekit::data {

ImageSet ImageSet::select(const torch::Tensor& index) const {
  return {images.index_select(0, index), labels.index_select(0, index),
          clusters.defined() ? clusters.index_select(0, index) : clusters};
}

ImageSet ImageSet::slice(int64_t begin, int64_t end) const {
  MOEKIT_CHECK(begin >= 0 && begin <= end && end <= size(), "ImageSet: rows ", begin, "..", end,
               " of ", size());
  return {images.slice(0, begin, end), labels.slice(0, begin, end),
          clusters.defined() ? clusters.slice(0, begin, end) : clusters};
}

namespace {

void add_tensor(Sha256& sum, const torch::Tensor& tensor) {
  const torch::Tensor whole = tensor.contiguous();
  sum.add(concat(whole.dtype().name(), whole.sizes()));
  sum.add({static_cast<const char*>(whole.data_ptr()), whole.nbytes()});
}

}  // namespace

std::string checksum(const ImageDataset& dataset) {
  Sha256 sum;
  for (const ImageSet* part : {&dataset.train, &dataset.test}) {
    add_tensor(sum, part->images);
    add_tensor(sum, part->labels);
  }
  return sum.hex();
}

torch::Tensor normalize(const torch::Tensor& images, const Normalization& normalization) {
  const auto channels = static_cast<int64_t>(normalization.mean.size());
  MOEKIT_CHECK(images.dim() == 4 && images.size(1) == channels, "normalize: images must be [N, ",
               channels, ", H, W]; got ", images.sizes());
  const double unit = images.is_floating_point() ? 1.0 : 255.0;
  std::vector<float> factor;
  std::vector<float> offset;
  for (size_t c = 0; c < normalization.mean.size(); ++c) {
    factor.push_back(static_cast<float>(1.0 / (unit * normalization.std_dev[c])));
    offset.push_back(static_cast<float>(-normalization.mean[c] / normalization.std_dev[c]));
  }
  const auto shape = {int64_t{1}, channels, int64_t{1}, int64_t{1}};
  const auto is = [](const std::vector<float>& values, float wanted) {
    return std::all_of(values.begin(), values.end(), [&](float v) { return v == wanted; });
  };
  if (images.is_floating_point() && is(factor, 1) && is(offset, 0)) return images;
  return images.to(torch::kFloat32)
      .mul(torch::tensor(factor).reshape(shape))
      .add_(torch::tensor(offset).reshape(shape));
}

Json ImageDataset::describe() const {
  const auto shape = train.images.sizes().slice(1);
  Json out = {{"summary", concat(train.size(), " training and ", test.size(), " test images of ",
                                 shape[1], "x", shape[2], ", ", shape[0], " channel(s)")},
              {"image", shape.vec()},
              {"mean", normalization.mean},
              {"std", normalization.std_dev},
              {"train", train.size()},
              {"test", test.size()}};
  if (train.clusters.defined()) out["true_clusters"] = train.clusters.max().item<int64_t>() + 1;
  const auto train_counts = torch::bincount(train.labels, {}, num_classes());
  const auto test_counts = torch::bincount(test.labels, {}, num_classes());
  for (int64_t c = 0; c < num_classes(); ++c) {
    out["classes"][class_names[static_cast<size_t>(c)]] = {
        {"train", train_counts[c].item<int64_t>()}, {"test", test_counts[c].item<int64_t>()}};
  }
  return out;
}

ImageSet make_image_set(torch::Tensor images, torch::Tensor labels, int64_t num_classes,
                        const std::string& where) {
  MOEKIT_CHECK_FORMAT(images.dim() == 4 && labels.dim() == 1, where,
                      ": images must be [N, C, H, W] and labels [N]; got ", images.sizes(), " and ",
                      labels.sizes());
  MOEKIT_CHECK_FORMAT(images.size(0) == labels.size(0), where, ": ", images.size(0), " images but ",
                      labels.size(0), " labels");
  labels = labels.to(torch::kLong);
  if (labels.numel() > 0) {
    const auto lowest = labels.min().item<int64_t>();
    const auto highest = labels.max().item<int64_t>();
    MOEKIT_CHECK_FORMAT(lowest >= 0 && highest < num_classes, where, ": label ",
                        lowest < 0 ? lowest : highest, "; there are ", num_classes, " classes");
  }
  return {std::move(images), std::move(labels), {}};
}

void check_generated_size(const std::string& where, int64_t num_train, int64_t num_test,
                          const std::vector<int64_t>& sample, uint64_t bytes_each) {
  MOEKIT_CHECK(num_train >= 1 && num_test >= 1, where,
               ".num_train and num_test must be at least 1; got ", num_train, " and ", num_test);
  const auto check = [&](const char* key, int64_t count) {
    std::vector<int64_t> sizes = {count};
    sizes.insert(sizes.end(), sample.begin(), sample.end());
    const std::string shortage = memory_shortage(sizes, bytes_each);
    MOEKIT_CHECK(shortage.empty(), where, ".", key, " = ", count, ": ", shortage);
  };
  check("num_train", num_train);
  check("num_test", num_test);
}

void check_classes(const ImageSet& set, const std::vector<std::string>& class_names,
                   const std::string& where) {
  const auto counts = torch::bincount(set.labels, {}, static_cast<int64_t>(class_names.size()));
  for (size_t c = 0; c < class_names.size(); ++c) {
    MOEKIT_CHECK_FORMAT(counts[static_cast<int64_t>(c)].item<int64_t>() > 0, where, ": none of ",
                        set.size(), " images is of class ", c, " (", class_names[c], ")");
  }
}

}  // namespace moekit::data
