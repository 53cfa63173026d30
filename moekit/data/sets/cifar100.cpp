#include "moekit/data/sets/cifar100.h"

#include "moekit/data/cifar.h"
#include "moekit/data/folders.h"

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

/// One part of the data set: a whole file, or parts of it.
struct Part {
  std::string whole;
  std::vector<std::string> pieces;
  int64_t size;
};
const Part kTrainPart{"train.bin", {"train_01.bin", "train_02.bin"}, 50'000};
const Part kTestPart{"test.bin", {"test_01.bin"}, 10'000};

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

bool has_part(const fs::path& folder, const Part& part) {
  return has_files(folder, {part.whole}) || !find_files(folder, part.pieces).empty();
}

bool has_cifar100(const fs::path& folder) {
  return has_part(folder, kTrainPart) && has_part(folder, kTestPart);
}

/// The whole file where it is there; its pieces would only repeat it.
ImageSet read_part(const fs::path& folder, const Part& part) {
  const auto pieces = find_files(folder, part.pieces);
  const bool whole = pieces.empty() || has_files(folder, {part.whole});
  const CifarLayout layout{2, 100, part.size, whole};
  return read_cifar(whole ? std::vector<fs::path>{need_file(folder, part.whole)} : pieces, layout);
}

}  // namespace

ImageDataset read_cifar100(const fs::path& folder) {
  ImageDataset set;
  set.name = "cifar100";
  set.source = folder.string();
  set.train = read_part(folder, kTrainPart);
  set.test = read_part(folder, kTestPart);
  set.class_names = {std::begin(kCifar100Classes), std::end(kCifar100Classes)};
  check_classes(set.train, set.class_names, concat(folder.string(), ": cifar100, training part"));
  check_classes(set.test, set.class_names, concat(folder.string(), ": cifar100, test part"));
  set.normalization = {{0.5074, 0.4867, 0.4411}, {0.2011, 0.1987, 0.2025}};
  return set;
}

DatasetRow cifar100_row() {
  auto row = stored<"cifar100", &read_cifar100>(
      "32x32 colour photographs, 50,000 + 10,000, 100 classes; whole or in parts");
  row.folders = {"cifar100", "cifar-100-binary"};
  row.present = &has_cifar100;
  const char* const archive = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz";
  const char* const archive_sum =
      "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec";
  row.files = {{"train.bin", archive, "", archive_sum}, {"test.bin", archive, "", archive_sum}};
  return row;
}

}  // namespace moekit::data
