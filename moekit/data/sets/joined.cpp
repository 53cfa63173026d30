#include "moekit/data/sets/joined.h"

#include <algorithm>

namespace moekit::data {
namespace {

/// The images of some classes, labels renumbered from `offset` in the order of `classes`.
ImageSet pick_classes(const ImageSet& set, const std::vector<int64_t>& classes, int64_t num_classes,
                      int64_t offset) {
  auto renumber = torch::full({num_classes}, -1, torch::kLong);
  for (size_t c = 0; c < classes.size(); ++c) {
    MOEKIT_CHECK(classes[c] >= 0 && classes[c] < num_classes, "join_datasets: class ", classes[c],
                 "; there are ", num_classes);
    renumber[classes[c]] = offset + static_cast<int64_t>(c);
  }
  const auto labels = renumber.index_select(0, set.labels);
  const auto rows = labels.ge(0).nonzero().squeeze(1);
  return {set.images.index_select(0, rows), labels.index_select(0, rows), {}};
}

ImageSet interleave(const ImageSet& a, const ImageSet& b) {
  const int64_t pairs = std::min(a.size(), b.size());
  const auto mix = [&](const torch::Tensor& x, const torch::Tensor& y) {
    return torch::stack({x.slice(0, 0, pairs), y.slice(0, 0, pairs)}, 1).flatten(0, 1);
  };
  const auto cluster = torch::arange(2, torch::kLong).repeat({pairs});
  return {mix(a.images, b.images), mix(a.labels, b.labels), cluster};
}

std::shared_ptr<Dataset> make_fashion_and_digits(const NoOptions&, const DatasetSite& site) {
  return std::make_shared<ImageDataset>(
      join_datasets(*load_images("fashion-mnist", site), {0, 1, 2, 3, 4, 5},
                    *load_images("mnist", site), {4, 5, 6, 7, 8, 9}));
}

}  // namespace

ImageDataset join_datasets(const ImageDataset& first, const std::vector<int64_t>& first_classes,
                           const ImageDataset& second, const std::vector<int64_t>& second_classes) {
  const auto shape = first.train.images.sizes().slice(1);
  MOEKIT_CHECK(shape == second.train.images.sizes().slice(1), "join_datasets: ", first.name,
               " has images ", shape, ", ", second.name, " ", second.train.images.sizes().slice(1));
  const auto offset = static_cast<int64_t>(first_classes.size());
  const auto join = [&](const ImageSet& a, const ImageSet& b) {
    return interleave(pick_classes(a, first_classes, first.num_classes(), 0),
                      pick_classes(b, second_classes, second.num_classes(), offset));
  };
  ImageDataset out;
  out.train = join(first.train, second.train);
  out.test = join(first.test, second.test);
  const auto add_names = [&](const ImageDataset& part, const std::vector<int64_t>& classes) {
    for (const int64_t c : classes) {
      out.class_names.push_back(part.class_names[static_cast<size_t>(c)]);
    }
  };
  add_names(first, first_classes);
  add_names(second, second_classes);
  out.name = first.name + "+" + second.name;
  const auto channels = static_cast<size_t>(shape[0]);
  out.normalization = {std::vector<double>(channels, 0.5), std::vector<double>(channels, 0.5)};
  out.source = first.source + " and " + second.source;
  return out;
}

DatasetRow fashion_and_digits_row() {
  DatasetRow row{kind<&make_fashion_and_digits>(
      "fashion-mnist+mnist",
      "six classes of clothes and the digits 4 to 9, alternating; 12 classes")};
  row.parts = {"fashion-mnist", "mnist"};
  return row;
}

}  // namespace moekit::data
