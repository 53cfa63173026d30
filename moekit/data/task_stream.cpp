#include "moekit/data/task_stream.h"

#include <torch/torch.h>

#include <map>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/data/datasets.h"
#include "moekit/data/transforms.h"

namespace moekit::data {
namespace {

/// [N, 1, side, side] uint8 of images of any size and colour.
torch::Tensor grey_squares(const torch::Tensor& images, int64_t side) {
  auto out = images;
  if (out.size(1) == 3) {
    const auto weight = torch::tensor({0.299F, 0.587F, 0.114F}).view({1, 3, 1, 1});  // ITU-R BT.601
    out = (out.to(torch::kFloat32) * weight).sum(1, /*keepdim=*/true).round_().to(torch::kUInt8);
  }
  if (out.size(2) == side && out.size(3) == side) return out;
  return torch::upsample_bilinear2d(out.to(torch::kFloat32), {side, side}, /*align_corners=*/false)
      .round_()
      .clamp_(0, 255)
      .to(torch::kUInt8);
}

ImageSet limited(const ImageSet& set, int64_t limit, const std::string& task, const char* what) {
  MOEKIT_CHECK(limit <= set.size(), what, ": ", task, " has ", set.size(), " images; got ", limit);
  return limit > 0 ? set.slice(0, limit) : set;
}

/// The first `count` images of every class, in an order drawn by the seed.
ImageSet few_of_each(const ImageSet& set, int64_t count, size_t classes, uint64_t seed,
                     const std::string& task) {
  std::vector<int64_t> taken(classes, 0);
  std::vector<int64_t> index;
  const auto labels = set.labels.contiguous();
  for (const int64_t i : random_permutation(set.size(), seed)) {
    auto& of_class = taken.at(static_cast<size_t>(labels.data_ptr<int64_t>()[i]));
    if (of_class++ < count) index.push_back(i);
  }
  for (size_t c = 0; c < classes; ++c) {
    MOEKIT_CHECK(taken[c] >= count, "stream.per_class: class ", c, " of ", task, " has ", taken[c],
                 " training images; got ", count);
  }
  return set.select(torch::tensor(index, torch::kLong));
}

/// Data sets by name, each read once.
class Sets {
 public:
  explicit Sets(DatasetSite site) : site_(std::move(site)) {}
  const ImageDataset& of(const std::string& name) {
    auto& set = sets_[name];
    if (!set) {
      set = load_images(name, site_);
      MOEKIT_CHECK(!set->train.images.is_floating_point(), "stream.tasks: ", name,
                   " holds numbers, no images");
      if (!dataset_row(name).generated()) sums_ += data::checksum(*set);
    }
    return *set;
  }
  std::string checksum() const { return sums_.empty() ? "" : sha256(sums_); }

 private:
  DatasetSite site_;
  std::map<std::string, std::shared_ptr<ImageDataset>> sets_;
  std::string sums_;
};

}  // namespace

TaskName parse_task(const std::string& name) {
  const auto slash = name.find('/');
  TaskName out;
  out.set = name.substr(0, slash);
  if (slash != std::string::npos) out.transform = name.substr(slash + 1);
  dataset_row(out.set);
  find_transform(out.transform);
  return out;
}

std::string stream_checksum(const std::vector<std::string>& tasks, const std::string& folder) {
  Sets sets(DatasetSite{folder, 1});
  for (const auto& name : tasks) {
    const TaskName parsed = parse_task(name);
    if (!dataset_row(parsed.set).generated()) sets.of(parsed.set);
  }
  return sets.checksum();
}

TaskStream load_stream(const StreamOptions& options, uint64_t seed, const std::string& folder) {
  TaskStream stream;
  Sets sets(DatasetSite{folder, seed});
  for (const auto& name : options.tasks) {
    const TaskName parsed = parse_task(name);
    const ImageDataset& set = sets.of(parsed.set);
    const Transform& transform = find_transform(parsed.transform);
    const auto change = [&](ImageSet part, const char* what) {
      part.images = transform.apply(grey_squares(part.images, options.side),
                                    derive_seed(seed, concat("transform/", name, "/", what)));
      return part;
    };
    StreamTask task;
    task.name = name;
    task.class_names = set.class_names;
    auto train = limited(set.train, options.train_limit, name, "stream.train_limit");
    ImageSet validation;
    if (options.validation > 0) {
      MOEKIT_CHECK(options.validation < train.size(), "stream.validation: ", name, " has ",
                   train.size(), " training images; got ", options.validation);
      const int64_t rest = train.size() - options.validation;
      validation = train.slice(rest, train.size());
      train = train.slice(0, rest);
    }
    if (options.per_class > 0) {
      train = few_of_each(train, options.per_class, set.class_names.size(),
                          derive_seed(seed, "few/" + name), name);
    }
    task.train = change(std::move(train), "train");
    if (validation.size() > 0) task.validation = change(std::move(validation), "validation");
    task.test = change(limited(set.test, options.test_limit, name, "stream.test_limit"), "test");
    stream.tasks.push_back(std::move(task));
  }
  stream.checksum = sets.checksum();
  return stream;
}

}  // namespace moekit::data
