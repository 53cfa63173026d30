#include "moekit/data/sets/cifar10.h"

#include "moekit/data/cifar.h"
#include "moekit/data/folders.h"

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> kCifar10Train = {"data_batch_1.bin", "data_batch_2.bin",
                                                "data_batch_3.bin", "data_batch_4.bin",
                                                "data_batch_5.bin"};
constexpr const char* kCifar10Test = "test_batch.bin";

bool has_cifar10(const fs::path& folder) {
  return !find_files(folder, kCifar10Train).empty() && has_files(folder, {kCifar10Test});
}

}  // namespace

ImageDataset read_cifar10(const fs::path& folder) {
  ImageDataset set;
  set.name = "cifar10";
  set.source = folder.string();
  const CifarLayout layout{1, 10, 10'000};
  set.train = read_cifar(find_files(folder, kCifar10Train), layout);
  set.test = read_cifar({need_file(folder, kCifar10Test)}, layout);
  set.class_names = {"airplane", "automobile", "bird",  "cat",  "deer",
                     "dog",      "frog",       "horse", "ship", "truck"};
  check_classes(set.train, set.class_names, concat(folder.string(), ": cifar10, training part"));
  check_classes(set.test, set.class_names, concat(folder.string(), ": cifar10, test part"));
  set.normalization = {{0.4914, 0.4822, 0.4465}, {0.2470, 0.2435, 0.2616}};
  return set;
}

DatasetRow cifar10_row() {
  auto row = stored<"cifar10", &read_cifar10>(
      "32x32 colour photographs, 50,000 + 10,000, 10 classes; any of the five training files");
  row.folders = {"cifar10", "cifar-10-batches-bin"};
  row.present = &has_cifar10;
  const char* const archive = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
  const char* const archive_sum =
      "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd";
  const char* const sums[] = {"cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                              "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                              "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                              "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                              "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"};
  for (size_t i = 0; i < kCifar10Train.size(); ++i) {
    row.files.push_back({kCifar10Train[i], archive, sums[i], archive_sum});
  }
  row.files.push_back({kCifar10Test, archive,
                       "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
                       archive_sum});
  return row;
}

}  // namespace moekit::data
