#include "moekit/tasks/classification/run_data.h"

#include "moekit/core/random.h"

namespace moekit::classification {
namespace {

void check_limit(const char* key, int64_t wanted, int64_t available) {
  MOEKIT_CHECK(wanted <= available, key, " = ", wanted, ", but there are ", available, " images");
}

}  // namespace

RunData make_run_data(const Config& config, const data::ImageDataset& dataset) {
  RunData out;
  out.train = dataset.train;
  out.test = dataset.test;
  out.normalization = dataset.normalization;
  out.class_names = dataset.class_names;
  out.directions = dataset.directions;
  const DataConfig& data = config.data;
  if (data.train_limit > 0) {
    check_limit("data.train_limit", data.train_limit, out.train.size());
    out.train = out.train.slice(0, data.train_limit);
  }
  if (data.test_limit > 0) {
    check_limit("data.test_limit", data.test_limit, out.test.size());
    out.test = out.test.slice(0, data.test_limit);
  }
  const auto set_apart = [&](const char* key, int64_t count) {
    MOEKIT_CHECK(count < out.train.size(), key, " = ", count, " leaves nothing of ",
                 out.train.size(), " training images");
    const auto order = torch::tensor(
        random_permutation(out.train.size(), derive_seed(static_cast<uint64_t>(config.seed), key)),
        torch::kLong);
    auto part = out.train.select(order.slice(0, 0, count));
    out.train = out.train.select(order.slice(0, count));
    return part;
  };
  if (data.holdout > 0) out.test = set_apart("data.holdout", data.holdout);
  if (data.validation > 0) out.validation = set_apart("data.validation", data.validation);
  const auto& images = out.train.images;
  out.input = {images.size(1), images.size(2), images.size(3),
               static_cast<int64_t>(out.class_names.size())};
  return out;
}

RunData load_run_data(const Config& config, const std::string& folder) {
  const data::DatasetSite site{folder, static_cast<uint64_t>(config.seed)};
  const auto dataset = data::load_images(config.data.set, site);
  RunData out = make_run_data(config, *dataset);
  if (!config.data.set.row().generated()) out.checksum = data::checksum(*dataset);
  return out;
}

}  // namespace moekit::classification
