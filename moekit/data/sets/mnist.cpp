#include "moekit/data/sets/mnist.h"

#include "moekit/data/folders.h"
#include "moekit/data/idx.h"

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

constexpr const char* kTrainImages = "train-images-idx3-ubyte";
constexpr const char* kTrainLabels = "train-labels-idx1-ubyte";
constexpr const char* kTestImages = "t10k-images-idx3-ubyte";
constexpr const char* kTestLabels = "t10k-labels-idx1-ubyte";
constexpr const char* kUspsTestImages = "test-images-idx3-ubyte";
constexpr const char* kUspsTestLabels = "test-labels-idx1-ubyte";
constexpr int64_t kIdxClasses = 10;

/// What a data set's files are known to hold.
struct KnownSize {
  int64_t side;
  int64_t train;
  int64_t test;
};
constexpr KnownSize kMnistSize{28, 60'000, 10'000};  // and of its relatives
constexpr KnownSize kUspsSize{16, 7291, 2007};

ImageSet read_idx_pair(const fs::path& folder, const std::string& images, const std::string& labels,
                       int64_t count, int64_t side) {
  const fs::path label_path = need_file(folder, labels);
  const auto pixels = read_idx(need_file(folder, images), {count, side, side});
  const auto values = read_idx(label_path, {count});
  return make_image_set(pixels.unsqueeze(1), values, kIdxClasses, label_path.string());
}

const std::vector<std::string> kDigits = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};

ImageDataset idx_dataset(std::string_view name, const fs::path& folder, ImageSet train,
                         ImageSet test, double mean, double std_dev,
                         const std::vector<std::string>& class_names = kDigits) {
  ImageDataset set;
  set.name = name;
  set.source = folder.string();
  set.train = std::move(train);
  set.test = std::move(test);
  set.class_names = class_names;
  set.normalization = {{mean}, {std_dev}};
  check_classes(set.train, set.class_names, concat(folder.string(), ": ", name, ", training part"));
  check_classes(set.test, set.class_names, concat(folder.string(), ": ", name, ", test part"));
  return set;
}

ImageSet read_train(const fs::path& folder, const KnownSize& size = kMnistSize) {
  return read_idx_pair(folder, kTrainImages, kTrainLabels, size.train, size.side);
}
ImageSet read_test(const fs::path& folder) {
  return read_idx_pair(folder, kTestImages, kTestLabels, kMnistSize.test, kMnistSize.side);
}

bool has_mnist(const fs::path& folder) {
  return has_files(folder, {kTrainImages, kTrainLabels, kTestImages, kTestLabels});
}
bool has_kmnist(const fs::path& folder) { return has_files(folder, {kTestImages, kTestLabels}); }
bool has_usps(const fs::path& folder) {
  return has_files(folder, {kTrainImages, kTrainLabels, kUspsTestImages, kUspsTestLabels});
}

RemoteFile idx_file(const char* base, const char* name, const char* sha256) {
  return {name, concat(base, name, ".gz"), sha256};
}

std::vector<RemoteFile> mnist_files(const char* base, const char* const (&sums)[4]) {
  return {idx_file(base, kTrainImages, sums[0]), idx_file(base, kTrainLabels, sums[1]),
          idx_file(base, kTestImages, sums[2]), idx_file(base, kTestLabels, sums[3])};
}

}  // namespace

ImageDataset read_mnist(const fs::path& folder) {
  return idx_dataset("mnist", folder, read_train(folder), read_test(folder), 0.1307, 0.3081);
}

ImageDataset read_fashion_mnist(const fs::path& folder) {
  return idx_dataset("fashion-mnist", folder, read_train(folder), read_test(folder), 0.2859, 0.3530,
                     {"T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt",
                      "sneaker", "bag", "ankle boot"});
}

ImageDataset read_kmnist(const fs::path& folder) {
  auto test = read_test(folder);
  ImageSet train;
  if (has_files(folder, {kTrainImages})) {
    train = read_train(folder);
  } else {
    const int64_t cut = test.size() / 5 * 4;
    train = test.slice(0, cut);
    test = test.slice(cut, test.size());
  }
  return idx_dataset("kmnist", folder, std::move(train), std::move(test), 0.1918, 0.3483,
                     {"o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"});
}

ImageDataset read_usps(const fs::path& folder) {
  auto test =
      read_idx_pair(folder, kUspsTestImages, kUspsTestLabels, kUspsSize.test, kUspsSize.side);
  return idx_dataset("usps", folder, read_train(folder, kUspsSize), std::move(test), 0.2469,
                     0.2989);
}

DatasetRow fashion_mnist_row() {
  auto row = stored<"fashion-mnist", &read_fashion_mnist>(
      "28x28 grey clothes, 60,000 + 10,000, 10 classes");
  row.folders = {"fashion-mnist"};
  row.files = mnist_files("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                          {"c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                           "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                           "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                           "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"});
  row.present = &has_mnist;
  return row;
}

DatasetRow mnist_row() {
  auto row = stored<"mnist", &read_mnist>("28x28 grey digits, 60,000 + 10,000, 10 classes");
  row.folders = {"mnist"};
  row.files = mnist_files("https://ossci-datasets.s3.amazonaws.com/mnist/",
                          {"ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                           "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                           "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                           "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"});
  row.present = &has_mnist;
  return row;
}

DatasetRow kmnist_row() {
  const char* const base = "http://codh.rois.ac.jp/kmnist/dataset/kmnist/";
  auto row = stored<"kmnist", &read_kmnist>(
      "28x28 grey hiragana, 10 classes; where the training part is missing, 8,000 + 2,000 of the "
      "test part");
  row.folders = {"kmnist"};
  row.files = {idx_file(base, kTestImages,
                        "76fbd229ce87db80dd281af5e6670de4ad0e42fb30a7bd643972994c47c1f42e"),
               idx_file(base, kTestLabels,
                        "a11dc742be8e781a40a92f53d6a4957e7b7d36df2faa097659131ebfd8fd60c6")};
  row.present = &has_kmnist;
  return row;
}

DatasetRow usps_row() {
  auto row = stored<"usps", &read_usps>("16x16 grey digits, 7,291 + 2,007, 10 classes (IDX files)");
  row.folders = {"usps"};
  row.present = &has_usps;
  return row;
}

}  // namespace moekit::data
