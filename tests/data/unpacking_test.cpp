#include <gtest/gtest.h>
#include <unistd.h>

#include <random>

#include "moekit/core/files.h"
#include "moekit/data/cifar.h"
#include "moekit/data/compressed.h"
#include "moekit/data/idx.h"
#include "tests/support/pack.h"
#include "tests/support/refusal.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

/// Bytes that do not pack.
std::string random_bytes(size_t count) {
  std::mt19937 generator(3);
  std::string out(count, '\0');
  for (auto& byte : out) byte = static_cast<char>(generator());
  return out;
}

class UnpackingTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-unpacking-", ::getpid());
    create_folders(folder_);
    path_ = folder_ / "f";
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path write(const std::string& bytes) {
    write_file_atomic(path_, bytes);
    return path_;
  }
  /// What reading those bytes as a file is refused with, without the path.
  std::string told(const std::string& bytes) {
    const auto text = moekit::refusal([&] { read_unpacked(write(bytes), uint64_t{1} << 30); });
    return text.starts_with(path_.string()) ? text.substr(path_.string().size()) : text;
  }
  fs::path folder_;
  fs::path path_;
};

TEST_F(UnpackingTest, EveryPackingGivesTheWholeContentInPiecesOfAnySize) {
  const std::string content = random_bytes((size_t{5} << 19) + 77);  // 2.5 MiB, several chunks
  for (const auto& bytes : {content, test_support::gzip(content), test_support::xz(content)}) {
    write(bytes);
    EXPECT_TRUE(read_unpacked(path_, content.size()) == content);
    EXPECT_EQ(moekit::refusal([&] { read_unpacked(path_, content.size() - 1); }),
              concat(path_.string(), ": unpacks to more than ", content.size() - 1, " bytes"));
    UnpackedFile file(path_);
    std::string got;
    std::string piece(1'400'003, '\0');
    for (const size_t size : {size_t{0}, size_t{1}, size_t{7}, size_t{1} << 10, piece.size()}) {
      ASSERT_EQ(file.read(piece.data(), size), size);
      got.append(piece, 0, size);
    }
    const size_t rest = content.size() - got.size();
    ASSERT_GT(piece.size(), rest);
    EXPECT_EQ(file.read(piece.data(), piece.size()), rest);
    got.append(piece, 0, rest);
    EXPECT_TRUE(got == content);
    EXPECT_EQ(file.read(piece.data(), 5), 0U);  // behind the end, again and again
    EXPECT_EQ(file.read(piece.data(), 5), 0U);
  }
}

TEST_F(UnpackingTest, ContentOfWholeChunksAndOfNothingIsRead) {
  for (const size_t size : {size_t{0}, size_t{1} << 20, size_t{2} << 20}) {
    const std::string content = random_bytes(size);
    EXPECT_TRUE(read_unpacked(write(content), size) == content) << size;
    EXPECT_TRUE(read_unpacked(write(test_support::gzip(content)), size) == content) << size;
    EXPECT_TRUE(read_unpacked(write(test_support::xz(content)), size) == content) << size;
  }
}

TEST_F(UnpackingTest, WhatOnlyBeginsAsAPackedFileIsPlain) {
  for (const std::string text : {"\x1f", "\x1fz", "\xfd",
                                 "\xfd"
                                 "7zXZ",
                                 "\xfd"
                                 "7zXZ?"}) {
    EXPECT_EQ(read_unpacked(write(text), 100), text);
  }
}

TEST_F(UnpackingTest, FaultsOfPackedDataAreTold) {
  const std::string content = random_bytes(3'000'000);
  const std::string gz = test_support::gzip(content);
  EXPECT_EQ(told(gz), "nothing was thrown");
  EXPECT_EQ(told(gz.substr(0, 2)), ": the gzip data end too early");
  EXPECT_EQ(told(gz.substr(0, gz.size() / 2)), ": the gzip data end too early");
  EXPECT_EQ(told(gz.substr(0, gz.size() - 1)), ": the gzip data end too early");
  std::string changed = gz;
  changed[2] = 7;  // no method
  EXPECT_EQ(told(changed), ": the gzip data are corrupt");
  EXPECT_EQ(told(gz + gz + "\x1f\x8b"), ": the gzip data end too early");
  const std::string xz = test_support::xz(content);
  EXPECT_EQ(told(xz), "nothing was thrown");
  EXPECT_EQ(told(xz.substr(0, 6)), ": the xz data end too early");
  EXPECT_EQ(told(xz.substr(0, xz.size() - 1)), ": the xz data end too early");
  changed = xz;
  changed[xz.size() / 2] = static_cast<char>(~changed[xz.size() / 2]);
  EXPECT_EQ(told(changed), ": the xz data are corrupt");
}

TEST_F(UnpackingTest, XzOptionsBeyondWhatIsKnownAreTold) {
  std::string xz = test_support::xz("hello");
  ASSERT_EQ(xz[14], 0x21);  // LZMA2, in the block's header, whose sum is in 20 to 23
  const auto with = [&](size_t at, char value) {
    std::string changed = xz;
    changed[at] = value;
    const uint32_t sum = lzma_crc32(reinterpret_cast<const uint8_t*>(changed.data()) + 12, 8, 0);
    for (size_t b = 0; b < 4; ++b) changed[20 + b] = static_cast<char>(sum >> (8 * b));
    return told(changed);
  };
  EXPECT_EQ(with(14, 0x21), "nothing was thrown");
  EXPECT_EQ(with(14, 0x22), ": the xz data use a filter that is not known");
  EXPECT_EQ(with(16, 0x27), ": unpacking the xz data takes more than 128 MiB of memory");
  EXPECT_EQ(with(16, 0x1c), "nothing was thrown");  // 64 MiB, as of xz -9
}

/// A header and what follows it.
std::string idx_bytes(const std::vector<uint32_t>& sizes, const std::string& values) {
  std::string out = {0, 0, 8, static_cast<char>(sizes.size())};
  for (const auto size : sizes) {
    for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(size >> shift);
  }
  return out + values;
}

TEST(IdxBytes, ReadUpToFourDimensions) {
  const std::string values = random_bytes(120);
  const std::vector<std::vector<uint32_t>> all = {{120}, {8, 15}, {4, 6, 5}, {2, 3, 4, 5}};
  for (const auto& sizes : all) {
    const auto got = parse_idx(idx_bytes(sizes, values), "f");
    EXPECT_EQ(got.sizes().vec(), std::vector<int64_t>(sizes.begin(), sizes.end()));
    EXPECT_EQ(got.scalar_type(), torch::kUInt8);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(got.data_ptr<uint8_t>()), 120), values);
  }
  EXPECT_EQ(parse_idx(idx_bytes({0, 3}, ""), "f").sizes().vec(), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(parse_idx(idx_bytes({3, 0}, ""), "f").sizes().vec(), (std::vector<int64_t>{3, 0}));
}

TEST(IdxBytes, AreRefusedForEachFaultInItsOwnWords) {
  const auto told = [](const std::string& bytes) {
    return moekit::refusal([&] { parse_idx(bytes, "f"); });
  };
  const std::string good = idx_bytes({2, 3}, "abcdef");
  EXPECT_EQ(told(good), "nothing was thrown");
  const auto with = [&](size_t at, char value) {
    std::string changed = good;
    changed[at] = value;
    return told(changed);
  };
  for (const size_t length : {0, 1, 3}) {
    EXPECT_EQ(told(good.substr(0, length)), "f: is no IDX file");
  }
  EXPECT_EQ(with(0, 1), "f: is no IDX file");
  EXPECT_EQ(with(1, 1), "f: is no IDX file");
  EXPECT_EQ(with(2, 9), "f: IDX type 9; only unsigned bytes (8) are read");
  EXPECT_EQ(with(2, 7), "f: IDX type 7; only unsigned bytes (8) are read");
  EXPECT_EQ(with(3, 0), "f: 0 dimensions");
  EXPECT_EQ(with(3, 5), "f: 5 dimensions");
  for (const size_t length : {4, 5, 8, 11}) {
    EXPECT_EQ(told(good.substr(0, length)), "f: the header ends too early");
  }
  EXPECT_EQ(told(good.substr(0, 12)), "f: the header tells of 6 bytes; 0 follow");
  EXPECT_EQ(told(good.substr(0, 17)), "f: the header tells of 6 bytes; 5 follow");
  EXPECT_EQ(told(good + "g"), "f: the header tells of 6 bytes; more follow");
}

TEST(IdxBytes, SizesAreBigEndianAndTheirProductIsAtMostTwoGibibytes) {
  const auto told = [](const std::vector<uint32_t>& sizes) {
    return moekit::refusal([&] { parse_idx(idx_bytes(sizes, ""), "f", {1}); });
  };
  EXPECT_EQ(told({0x01020304}), "f: holds [16909060] bytes; wanted [1]");
  EXPECT_EQ(told({0x80000000}), "f: holds [2147483648] bytes; wanted [1]");
  EXPECT_EQ(told({0x80000001}), "f: the sizes in the header are too large");
  EXPECT_EQ(told({32768, 65536}), "f: holds [32768, 65536] bytes; wanted [1]");
  EXPECT_EQ(told({32769, 65536}), "f: the sizes in the header are too large");
  EXPECT_EQ(told({0, 32768, 65536}), "f: holds [0, 32768, 65536] bytes; wanted [1]");
  EXPECT_EQ(told({32768, 0, 65537}), "f: the sizes in the header are too large");
}

TEST_F(UnpackingTest, IdxOfMoreThanOneStepOfMemoryIsReadWhole) {
  // Steps of 64, 128 and at last 140 MiB.
  const size_t size = size_t{140} << 20;
  const auto whole =
      read_idx(write(test_support::xz(idx_bytes({140, 1 << 20}, "abc"), size - 3)), {140, 1 << 20});
  EXPECT_EQ(whole.sizes().vec(), (std::vector<int64_t>{140, 1 << 20}));
  EXPECT_EQ(whole[0][2].item<int>(), 'c');
  EXPECT_EQ(whole.sum().item<int64_t>(), 'a' + 'b' + 'c');
  EXPECT_EQ(
      moekit::refusal([&] {
        read_idx(write(test_support::xz(idx_bytes({140, 1 << 20}, "abc"), size - 4)));
      }),
      concat(path_.string(), ": the header tells of ", size, " bytes; ", size - 1, " follow"));
}

TEST_F(UnpackingTest, CifarRecordsKeepTheirPixelsAndLabels) {
  for (const int64_t label_bytes : {1, 2}) {
    const int64_t record = label_bytes + 3072;
    std::string bytes = random_bytes(static_cast<size_t>(130 * record));  // more than two blocks
    for (int64_t n = 0; n < 130; ++n) {
      bytes[static_cast<size_t>(n * record + label_bytes - 1)] = static_cast<char>(n % 91);
    }
    const auto both = read_cifar({write(bytes), path_}, {label_bytes, 91, 130});
    ASSERT_EQ(both.images.sizes().vec(), (std::vector<int64_t>{260, 3, 32, 32}));
    EXPECT_FALSE(both.clusters.defined());
    const std::string got(reinterpret_cast<const char*>(both.images.data_ptr<uint8_t>()),
                          260 * 3072);
    for (int64_t n = 0; n < 260; ++n) {
      EXPECT_EQ(both.labels[n].item<int64_t>(), n % 130 % 91);
      ASSERT_TRUE(got.substr(static_cast<size_t>(n) * 3072, 3072) ==
                  bytes.substr(static_cast<size_t>(n % 130 * record + label_bytes), 3072))
          << n;
    }
    const auto told = [&](int64_t count, const CifarLayout& layout) {
      const auto path = write(bytes.substr(0, static_cast<size_t>(count * record)));
      const auto text = moekit::refusal([&] { read_cifar({path}, layout); });
      return text.starts_with(path.string()) ? text.substr(path.string().size()) : text;
    };
    EXPECT_EQ(told(130, {label_bytes, 91, 131, false}), "nothing was thrown");
    EXPECT_EQ(told(130, {label_bytes, 91, 130, false}), "nothing was thrown");
    EXPECT_EQ(told(130, {label_bytes, 91, 129, false}),
              ": more than 129 images; wanted at most 129");
    EXPECT_EQ(told(130, {label_bytes, 91, 131}), ": 130 images; wanted 131");
    EXPECT_EQ(told(130, {label_bytes, 91, 129}), ": more than 129 images; wanted 129");
    for (const int64_t count : {64, 128, 0}) {  // whole blocks
      write(bytes.substr(0, static_cast<size_t>(count * record)));
      EXPECT_EQ(read_cifar({path_}, {label_bytes, 91, 200, false}).size(), count);
      EXPECT_EQ(read_cifar({path_}, {label_bytes, 91, count, false}).size(), count);
    }
    write(bytes.substr(0, static_cast<size_t>(64 * record + 5)));
    EXPECT_EQ(moekit::refusal([&] {
                read_cifar({path_}, {label_bytes, 91, 200, false});
              }),
              concat(path_.string(), ": ", 64 * record + 5,
                     " bytes are no whole number of records of ", record));
  }
}

}  // namespace
}  // namespace moekit::data
