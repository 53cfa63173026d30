#include "moekit/data/registry.h"

#include <torch/types.h>

#include <cstdlib>

#include "moekit/core/error.h"
#include "moekit/data/cifar.h"
#include "moekit/data/cluster_patch.h"
#include "moekit/data/idx.h"
#include "moekit/data/joined.h"
#include "moekit/data/rotated.h"
#include "moekit/data/soft_routed_teacher.h"
#include "moekit/data/synthetic.h"

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

/// The file itself or a packed form of it.
std::optional<fs::path> find_file(const fs::path& folder, const std::string& name) {
  for (const char* suffix : {"", ".gz", ".xz"}) {
    const fs::path path = folder / (name + suffix);
    std::error_code error;
    if (fs::is_regular_file(path, error)) return path;
  }
  return std::nullopt;
}

/// Those of `names` that are there, in order.
std::vector<fs::path> find_files(const fs::path& folder, const std::vector<std::string>& names) {
  std::vector<fs::path> found;
  for (const auto& name : names) {
    if (auto path = find_file(folder, name)) found.push_back(*path);
  }
  return found;
}

fs::path need_file(const fs::path& folder, const std::string& name) {
  if (auto path = find_file(folder, name)) return *path;
  throw IoError(concat(folder.string(), " holds no ", name, "[.gz|.xz]"));
}

bool has_files(const fs::path& folder, const std::vector<std::string>& names) {
  return find_files(folder, names).size() == names.size();
}

std::vector<std::string> digits() { return {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}; }

ImageSet read_idx_pair(const fs::path& folder, const std::string& images, const std::string& labels,
                       int64_t num_classes) {
  const fs::path path = need_file(folder, images);
  auto pixels = read_idx(path);
  MOEKIT_CHECK_FORMAT(pixels.dim() == 3, path.string(), ": images have 3 dimensions; got ",
                      pixels.dim());
  auto values = read_idx(need_file(folder, labels));
  MOEKIT_CHECK_FORMAT(values.dim() == 1, folder.string(), "/", labels,
                      ": labels have 1 dimension; got ", values.dim());
  return make_image_set(pixels.unsqueeze(1), values, num_classes, path.string());
}

Dataset assemble(const DatasetInfo& info, const fs::path& folder, ImageSet train, ImageSet test,
                 std::vector<std::string> classes, Normalization normalization) {
  return {info.name,          std::move(train),         std::move(test),
          std::move(classes), std::move(normalization), folder.string()};
}

constexpr const char* kTrainImages = "train-images-idx3-ubyte";
constexpr const char* kTrainLabels = "train-labels-idx1-ubyte";
constexpr const char* kTestImages = "t10k-images-idx3-ubyte";
constexpr const char* kTestLabels = "t10k-labels-idx1-ubyte";

bool has_mnist(const fs::path& folder) {
  return has_files(folder, {kTrainImages, kTrainLabels, kTestImages, kTestLabels});
}

Dataset load_mnist(const DatasetInfo& info, const fs::path& folder) {
  return assemble(info, folder, read_idx_pair(folder, kTrainImages, kTrainLabels, 10),
                  read_idx_pair(folder, kTestImages, kTestLabels, 10), digits(),
                  {{0.1307}, {0.3081}});
}

Dataset load_fashion(const DatasetInfo& info, const fs::path& folder) {
  auto dataset = load_mnist(info, folder);
  dataset.class_names = {"T-shirt", "trouser", "pullover", "dress", "coat",
                         "sandal",  "shirt",   "sneaker",  "bag",   "ankle boot"};
  dataset.normalization = {{0.2859}, {0.3530}};
  return dataset;
}

bool has_kmnist(const fs::path& folder) { return has_files(folder, {kTestImages, kTestLabels}); }

Dataset load_kmnist(const DatasetInfo& info, const fs::path& folder) {
  auto test = read_idx_pair(folder, kTestImages, kTestLabels, 10);
  ImageSet train;
  if (find_file(folder, kTrainImages)) {
    train = read_idx_pair(folder, kTrainImages, kTrainLabels, 10);
  } else {
    // Only the test part is there: four fifths of it train.
    const int64_t cut = test.size() / 5 * 4;
    train = test.slice(0, cut);
    test = test.slice(cut, test.size());
  }
  return assemble(info, folder, std::move(train), std::move(test),
                  {"o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"},
                  {{0.1918}, {0.3483}});
}

const std::vector<std::string> kUspsFiles = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                             "test-images-idx3-ubyte", "test-labels-idx1-ubyte"};

bool has_usps(const fs::path& folder) { return has_files(folder, kUspsFiles); }

Dataset load_usps(const DatasetInfo& info, const fs::path& folder) {
  return assemble(info, folder, read_idx_pair(folder, kUspsFiles[0], kUspsFiles[1], 10),
                  read_idx_pair(folder, kUspsFiles[2], kUspsFiles[3], 10), digits(),
                  {{0.2469}, {0.2989}});
}

const std::vector<std::string> kCifar10Train = {"data_batch_1.bin", "data_batch_2.bin",
                                                "data_batch_3.bin", "data_batch_4.bin",
                                                "data_batch_5.bin"};

bool has_cifar10(const fs::path& folder) {
  return !find_files(folder, kCifar10Train).empty() && has_files(folder, {"test_batch.bin"});
}

Dataset load_cifar10(const DatasetInfo& info, const fs::path& folder) {
  return assemble(
      info, folder, read_cifar(find_files(folder, kCifar10Train), 1, 10),
      read_cifar({need_file(folder, "test_batch.bin")}, 1, 10),
      {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"},
      {{0.4914, 0.4822, 0.4465}, {0.2470, 0.2435, 0.2616}});
}

const std::vector<std::string> kCifar100Train = {"train.bin", "train_01.bin", "train_02.bin"};
const std::vector<std::string> kCifar100Test = {"test.bin", "test_01.bin"};

bool has_cifar100(const fs::path& folder) {
  return !find_files(folder, kCifar100Train).empty() && !find_files(folder, kCifar100Test).empty();
}

const char* const kCifar100Classes[] = {
    "apple",       "aquarium_fish", "baby",      "bear",       "beaver",       "bed",
    "bee",         "beetle",        "bicycle",   "bottle",     "bowl",         "boy",
    "bridge",      "bus",           "butterfly", "camel",      "can",          "castle",
    "caterpillar", "cattle",        "chair",     "chimpanzee", "clock",        "cloud",
    "cockroach",   "couch",         "crab",      "crocodile",  "cup",          "dinosaur",
    "dolphin",     "elephant",      "flatfish",  "forest",     "fox",          "girl",
    "hamster",     "house",         "kangaroo",  "keyboard",   "lamp",         "lawn_mower",
    "leopard",     "lion",          "lizard",    "lobster",    "man",          "maple_tree",
    "motorcycle",  "mountain",      "mouse",     "mushroom",   "oak_tree",     "orange",
    "orchid",      "otter",         "palm_tree", "pear",       "pickup_truck", "pine_tree",
    "plain",       "plate",         "poppy",     "porcupine",  "possum",       "rabbit",
    "raccoon",     "ray",           "road",      "rocket",     "rose",         "sea",
    "seal",        "shark",         "shrew",     "skunk",      "skyscraper",   "snail",
    "snake",       "spider",        "squirrel",  "streetcar",  "sunflower",    "sweet_pepper",
    "table",       "tank",          "telephone", "television", "tiger",        "tractor",
    "train",       "trout",         "tulip",     "turtle",     "wardrobe",     "whale",
    "willow_tree", "wolf",          "woman",     "worm"};

Dataset load_cifar100(const DatasetInfo& info, const fs::path& folder) {
  return assemble(info, folder, read_cifar(find_files(folder, kCifar100Train), 2, 100),
                  read_cifar(find_files(folder, kCifar100Test), 2, 100),
                  {std::begin(kCifar100Classes), std::end(kCifar100Classes)},
                  {{0.5074, 0.4867, 0.4411}, {0.2011, 0.1987, 0.2025}});
}

/// T-shirt, trouser, pullover, dress, coat, sandal, then the digits 4 to 9.
Dataset join_fashion_and_digits(const std::vector<Dataset>& parts) {
  return join_datasets(parts[0], {0, 1, 2, 3, 4, 5}, parts[1], {4, 5, 6, 7, 8, 9});
}

template <typename Options, Dataset (*make)(const Options&, uint64_t)>
Dataset generate(const ConfigTree& tree, uint64_t seed) {
  Options options;
  bind_config(tree, options);
  return make(options, seed);
}

template <typename Options>
std::vector<ConfigKey> option_keys() {
  return config_keys(Options{}, "data.options");
}

Dataset rotate_cifar10(const std::vector<Dataset>& parts) { return make_rotation_task(parts[0]); }

RemoteFile idx_file(const char* base, const char* name, const char* sha256) {
  return {name, concat(base, name, ".gz"), sha256};
}

std::vector<RemoteFile> mnist_files(const char* base, const char* const (&sums)[4]) {
  return {idx_file(base, kTrainImages, sums[0]), idx_file(base, kTrainLabels, sums[1]),
          idx_file(base, kTestImages, sums[2]), idx_file(base, kTestLabels, sums[3])};
}

std::vector<DatasetInfo> make_table() {
  const std::string cifar10 = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
  const std::string cifar10_sum =
      "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";
  const std::string cifar100 = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz";
  const std::string cifar100_sum =
      "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec";
  const char* const kmnist = "http://codh.rois.ac.jp/kmnist/dataset/kmnist/";
  return {
      {"fashion-mnist",
       "28x28 grey clothes, 60,000 + 10,000, 10 classes",
       {"fashion-mnist"},
       mnist_files("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                   {"c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"}),
       &load_fashion,
       &has_mnist},
      {"mnist",
       "28x28 grey digits, 60,000 + 10,000, 10 classes",
       {"mnist"},
       mnist_files("https://ossci-datasets.s3.amazonaws.com/mnist/",
                   {"ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"}),
       &load_mnist,
       &has_mnist},
      {"kmnist",
       "28x28 grey hiragana, 10 classes; where the training part is missing, 8,000 + 2,000 of the "
       "test part",
       {"kmnist"},
       {idx_file(kmnist, kTestImages,
                 "76fbd229ce87db80dd281af5e6670de4ad0e42fb30a7bd643972994c47c1f42e"),
        idx_file(kmnist, kTestLabels,
                 "a11dc742be8e781a40a92f53d6a4957e7b7d36df2faa097659131ebfd8fd60c6")},
       &load_kmnist,
       &has_kmnist},
      {"usps",
       "16x16 grey digits, 7,291 + 2,007, 10 classes (IDX files)",
       {"usps"},
       {},
       &load_usps,
       &has_usps},
      {"cifar10",
       "32x32 colour photographs, 50,000 + 10,000, 10 classes; any of the five "
       "training files",
       {"cifar10", "cifar-10-batches-bin"},
       {{"data_batch_1.bin", cifar10,
         "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5", cifar10_sum},
        {"data_batch_2.bin", cifar10,
         "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed", cifar10_sum},
        {"data_batch_3.bin", cifar10,
         "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67", cifar10_sum},
        {"data_batch_4.bin", cifar10,
         "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48", cifar10_sum},
        {"data_batch_5.bin", cifar10,
         "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add", cifar10_sum},
        {"test_batch.bin", cifar10,
         "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b", cifar10_sum}},
       &load_cifar10,
       &has_cifar10},
      {"cifar100",
       "32x32 colour photographs, 50,000 + 10,000, 100 classes; whole or in parts",
       {"cifar100", "cifar-100-binary"},
       {{"train.bin", cifar100, "", cifar100_sum}, {"test.bin", cifar100, "", cifar100_sum}},
       &load_cifar100,
       &has_cifar100},
      {"fashion-mnist+mnist",
       "six classes of clothes and the digits 4 to 9, alternating; 12 classes",
       {},
       {},
       nullptr,
       nullptr,
       {"fashion-mnist", "mnist"},
       &join_fashion_and_digits},
      {"cifar10-rotate",
       "is a CIFAR-10 photograph rotated by 30 degrees? 2 classes, its 10 classes as clusters",
       {},
       {},
       nullptr,
       nullptr,
       {"cifar10"},
       &rotate_cifar10},
      {"cluster-patch",
       "generated samples of P patches with a label and a centre vector a cluster; 2 classes",
       {},
       {},
       nullptr,
       nullptr,
       {},
       nullptr,
       &generate<ClusterPatchOptions, &make_cluster_patch>,
       &option_keys<ClusterPatchOptions>},
      {"soft-routed-teacher",
       "generated: sign of a soft-routed teacher on Gaussian inputs; its pairs as clusters",
       {},
       {},
       nullptr,
       nullptr,
       {},
       nullptr,
       &generate<SoftRoutedSetOptions, &make_soft_routed_set>,
       &option_keys<SoftRoutedSetOptions>},
      {"synthetic-clusters",
       "12x12 generated images, 4 true clusters, 2 classes",
       {},
       {},
       nullptr,
       nullptr,
       {},
       nullptr,
       &generate<ClusterImagesOptions, &make_cluster_images>,
       &option_keys<ClusterImagesOptions>},
  };
}

}  // namespace

const std::vector<DatasetInfo>& known_datasets() {
  static const std::vector<DatasetInfo> kTable = make_table();
  return kTable;
}

const DatasetInfo& dataset_info(const std::string& name) {
  std::string names;
  for (const auto& info : known_datasets()) {
    if (info.name == name) return info;
    names += " " + info.name;
  }
  throw ArgumentError(concat("unknown data set \"", name, "\"; known:", names));
}

fs::path cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return fs::path(cache) / "moekit";
  }
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : ".") / ".cache" / "moekit";
}

std::vector<fs::path> search_folders(const std::string& flag) {
  std::vector<fs::path> folders;
  if (!flag.empty()) folders.emplace_back(flag);
  if (const char* variable = std::getenv("MOEKIT_DATA"); variable != nullptr && *variable != '\0') {
    folders.emplace_back(variable);
  }
  folders.push_back(cache_folder());
  folders.emplace_back("/usr/share/datasets");
  return folders;
}

std::optional<fs::path> find_dataset(const DatasetInfo& info, const std::string& flag) {
  std::optional<fs::path> first_part;
  for (const auto& name : info.parts) {
    const auto found = find_dataset(dataset_info(name), flag);
    if (!found) return std::nullopt;
    if (!first_part) first_part = found;
  }
  if (first_part) return first_part;
  const auto folders = search_folders(flag);
  for (size_t i = 0; i < folders.size(); ++i) {
    for (const auto& name : info.folders) {
      if (info.present(folders[i] / name)) return folders[i] / name;
    }
    // Files without a folder of their own could be any data set's: taken only when told so.
    if (i == 0 && !flag.empty() && info.present(folders[i])) return folders[i];
  }
  return std::nullopt;
}

Dataset load_dataset(const std::string& name, const std::string& data_flag,
                     const ConfigTree& options, uint64_t seed) {
  const DatasetInfo& info = dataset_info(name);
  if (info.generate != nullptr) return info.generate(options, seed);
  MOEKIT_CHECK(options.values.empty(), "data.options: data set ", name, " is not generated and ",
               "takes none; got ", options.values.dump());
  if (!data_flag.empty() && !fs::is_directory(data_flag)) {
    throw IoError(concat("--data ", data_flag, ": no such folder"));
  }
  if (info.join != nullptr) {
    std::vector<Dataset> parts;
    for (const auto& part : info.parts) parts.push_back(load_dataset(part, data_flag));
    auto dataset = info.join(parts);
    dataset.name = info.name;
    return dataset;
  }
  if (auto folder = find_dataset(info, data_flag)) return info.load(info, *folder);
  std::string searched;
  for (const auto& folder : search_folders(data_flag)) searched += " " + folder.string();
  throw IoError(concat("data set ", name, " was not found; searched:", searched,
                       info.files.empty() ? "" : concat("; try: moekit data fetch ", name)));
}

}  // namespace moekit::data
