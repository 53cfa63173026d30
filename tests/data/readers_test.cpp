#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/data/cifar.h"
#include "moekit/data/compressed.h"
#include "moekit/data/idx.h"
#include "moekit/data/image_dataset.h"
#include "tests/support/pack.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;
using test_support::gzip;
using test_support::xz;

std::string big_endian(uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
          static_cast<char>(v)};
}

std::string idx(const std::vector<uint32_t>& sizes, const std::string& payload, char type = 8) {
  std::string out = {0, 0, type, static_cast<char>(sizes.size())};
  for (const auto size : sizes) out += big_endian(size);
  return out + payload;
}

/// What a call is refused with.
template <typename E, typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  return "no error";
}

/// Most memory this process has held so far, in MiB.
int64_t peak_mib() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

class ReadersTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / concat("moekit-readers-", ::getpid());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name, const std::string& bytes) {
    write_file_atomic(folder_ / name, bytes);
    return folder_ / name;
  }
  fs::path folder_;
};

TEST_F(ReadersTest, IdxReadsPlainAndGzipped) {
  const std::string bytes = idx({2, 1, 3}, "abcdef");
  for (const auto& path : {write("a", bytes), write("a.gz", gzip(bytes))}) {
    const auto tensor = read_idx(path);
    EXPECT_EQ(tensor.sizes(), (std::vector<int64_t>{2, 1, 3}));
    EXPECT_EQ(tensor[1][0][2].item<int>(), 'f');
  }
}

TEST_F(ReadersTest, IdxRefusesTruncatedLyingAndForeignFiles) {
  EXPECT_THROW(parse_idx("", "f"), FormatError);
  EXPECT_THROW(parse_idx("hello world", "f"), FormatError);
  EXPECT_THROW(parse_idx(idx({2, 2}, "abc"), "f"), FormatError);    // too short
  EXPECT_THROW(parse_idx(idx({2, 2}, "abcde"), "f"), FormatError);  // too long
  EXPECT_THROW(parse_idx(idx({2}, "ab", 0x0d), "f"), FormatError);  // floats
  EXPECT_THROW(parse_idx(idx({2, 2}, "").substr(0, 9), "f"), FormatError);
  // Sizes whose product overflows 64 bits, and one that would take all memory.
  EXPECT_THROW(parse_idx(idx({0xffffffff, 0xffffffff, 0xffffffff}, "a"), "f"), FormatError);
  EXPECT_THROW(parse_idx(idx({0xffffffff}, "a"), "f"), FormatError);
  // No values at all, but strides that overflow.
  EXPECT_THROW(parse_idx(idx({0, 0xffffffff, 0xffffffff, 0xffffffff}, ""), "f"), FormatError);
  EXPECT_THROW(parse_idx(idx({}, ""), "f"), FormatError);
  EXPECT_THROW(parse_idx(idx({1, 1, 1, 1, 1}, "a"), "f"), FormatError);
}

TEST_F(ReadersTest, IdxRefusesAnotherShapeThanAKnownSetHas) {
  EXPECT_EQ(parse_idx(idx({2, 3}, "abcdef"), "f", {2, 3})[1][2].item<int>(), 'f');
  const auto told = [](const std::vector<uint32_t>& sizes, const std::vector<int64_t>& wanted) {
    return refusal<FormatError>([&] { parse_idx(idx(sizes, ""), "f", wanted); });
  };
  EXPECT_EQ(told({1, 1, 1}, {60000, 28, 28}), "f: holds [1, 1, 1] bytes; wanted [60000, 28, 28]");
  EXPECT_EQ(told({2}, {2, 3}), "f: holds [2] bytes; wanted [2, 3]");
  // A giant is refused for its shape, before memory is looked for.
  EXPECT_EQ(told({0x7fffffff}, {3}), "f: holds [2147483647] bytes; wanted [3]");
}

TEST_F(ReadersTest, IdxBeyondTheFreeMemoryIsRefusedInWords) {
  const auto path = write("big.gz", gzip(idx({1 << 30}, "a")));
  rlimit before{};
  ::getrlimit(RLIMIT_AS, &before);
  uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlimit little{pages * 4096 + (uint64_t{64} << 20), before.rlim_max};
  ::setrlimit(RLIMIT_AS, &little);
  std::string text;
  try {
    read_idx(path);
  } catch (const Error& error) {
    text = error.what();
  } catch (const std::bad_alloc&) {
  }
  ::setrlimit(RLIMIT_AS, &before);
  EXPECT_NE(text.find("big.gz: [1073741824] of 1 byte(s) take 1.07 GB; 0.0"), std::string::npos)
      << text;
}

TEST_F(ReadersTest, ABombIsUnpackedNoFurtherThanItsHeaderAndTheSetAllow) {
  // 300 MiB of zeros behind the header of 10 labels.
  const std::string start = idx({10}, "");
  const auto bomb = write("bomb.xz", xz(start, size_t{300} << 20));
  EXPECT_LT(fs::file_size(bomb), 1U << 20);
  const auto records = write("records.xz", xz("", size_t{300} << 20));
  const int64_t before = peak_mib();
  EXPECT_EQ(refusal<FormatError>([&] { read_idx(bomb, {10}); }),
            bomb.string() + ": the header tells of 10 bytes; more follow");
  EXPECT_EQ(refusal<FormatError>([&] { read_unpacked(bomb, 1000); }),
            bomb.string() + ": unpacks to more than 1000 bytes");
  EXPECT_EQ(refusal<FormatError>([&] {
              read_cifar({records}, {1, 10, 100, false});
            }),
            records.string() + ": more than 100 images; wanted at most 100");
  EXPECT_LT(peak_mib() - before, 60);
}

TEST_F(ReadersTest, EveryPrefixOfAGzippedIdxFileIsRefused) {
  const std::string packed = gzip(idx({50}, std::string(50, 'x')));
  for (size_t length = 0; length < packed.size(); ++length) {
    EXPECT_THROW(read_idx(write("cut.gz", packed.substr(0, length))), Error) << length;
  }
}

TEST_F(ReadersTest, AFileThatUnpacksToTooMuchIsRefused) {
  const auto path = write("bomb.gz", gzip(std::string(1 << 20, '\0')));
  EXPECT_LT(fs::file_size(path), 5000U);
  EXPECT_THROW(read_unpacked(path, 1000), FormatError);
  EXPECT_EQ(read_unpacked(path, 1 << 20).size(), 1U << 20);
}

TEST_F(ReadersTest, XzIsUnpackedAndBrokenXzIsRefused) {
  // "hello\n" packed by xz 5.4.
  static const unsigned char kXz[] = {
      0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02,
      0x00, 0x21, 0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00,
      0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x00, 0x00, 0x00, 0xa5, 0x60, 0x97,
      0xf1, 0x94, 0xf6, 0xfd, 0xe0, 0x00, 0x01, 0x1e, 0x06, 0xc1, 0x2f, 0xa4, 0x1d,
      0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59, 0x5a};
  const std::string xz(reinterpret_cast<const char*>(kXz), sizeof(kXz));
  EXPECT_EQ(read_unpacked(write("h.xz", xz), 100), "hello\n");
  EXPECT_EQ(read_unpacked(write("h.xz", xz + xz), 100), "hello\nhello\n");
  EXPECT_NE(refusal<FormatError>([&] {
              read_unpacked(write("h.xz", xz.substr(0, 40)), 100);
            }).find("the xz data end too early"),
            std::string::npos);
  // The same with a dictionary of 3 GiB in the block's header (byte 16; its sum is in 20 to 23).
  std::string hungry = xz;
  hungry[16] = 0x27;
  const uint32_t sum = lzma_crc32(reinterpret_cast<const uint8_t*>(hungry.data()) + 12, 8, 0);
  for (size_t b = 0; b < 4; ++b) hungry[20 + b] = static_cast<char>(sum >> (8 * b));
  EXPECT_NE(refusal<FormatError>([&] {
              read_unpacked(write("h.xz", hungry), 100);
            }).find("takes more than 128 MiB of memory"),
            std::string::npos);
}

TEST_F(ReadersTest, GzipMembersFollowEachOther) {
  EXPECT_EQ(read_unpacked(write("two.gz", gzip("ab") + gzip("cd")), 100), "abcd");
  EXPECT_THROW(read_unpacked(write("two.gz", gzip("ab") + "junk"), 100), FormatError);
}

TEST_F(ReadersTest, WhatIsNoRegularFileIsRefusedWithoutWaiting) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_NE(refusal<IoError>([&] { read_idx(folder_ / "pipe"); }).find("no regular file"),
            std::string::npos);
  EXPECT_NE(refusal<IoError>([&] { read_idx(folder_); }).find("no regular file"),
            std::string::npos);
  fs::create_symlink(folder_ / "loop", folder_ / "loop");
  EXPECT_NE(refusal<IoError>([&] { read_idx(folder_ / "loop"); }).find("symbolic links"),
            std::string::npos);
}

TEST_F(ReadersTest, CifarReadsRecordsAndTheFineLabel) {
  std::string record(2, '\3');
  record[1] = 7;
  record += std::string(1024, '\1') + std::string(1024, '\2') + std::string(1024, '\3');
  const CifarLayout any{2, 100, 10, false};
  const auto set = read_cifar({write("t.bin", record + record)}, any);
  EXPECT_EQ(set.size(), 2);
  EXPECT_EQ(set.labels[1].item<int64_t>(), 7);
  EXPECT_EQ(set.images[0][2][31][31].item<int>(), 3);
  EXPECT_THROW(read_cifar({write("t.bin", record)}, {2, 5, 10, false}), FormatError);  // 7 of 5
  EXPECT_THROW(read_cifar({folder_ / "none"}, any), IoError);
  const auto refused = [&](const std::string& bytes, const CifarLayout& layout) {
    const auto path = write("t.bin.gz", gzip(bytes));
    const auto text = refusal<FormatError>([&] { read_cifar({path}, layout); });
    return text.substr(std::min(text.size(), path.string().size() + 2));
  };
  EXPECT_EQ(refused(record + "x", any), "3075 bytes are no whole number of records of 3074");
  EXPECT_EQ(refused(record + record, {2, 100, 1, false}), "more than 1 images; wanted at most 1");
  EXPECT_EQ(refused(record, {2, 100, 2}), "1 images; wanted 2");
  EXPECT_EQ(refused(record + record, {2, 100, 1}), "more than 1 images; wanted 1");
  EXPECT_EQ(refused("", {2, 100, 1}), "0 images; wanted 1");
}

TEST(MakeImageSet, RefusesWhatDoesNotGoTogether) {
  const auto images = torch::zeros({2, 1, 3, 3}, torch::kUInt8);
  const auto told = [&](const torch::Tensor& pixels, const torch::Tensor& labels) {
    return refusal<FormatError>([&] { make_image_set(pixels, labels, 4, "f"); });
  };
  EXPECT_EQ(told(images, torch::tensor({0, -100})), "f: label -100; there are 4 classes");
  EXPECT_EQ(told(images, torch::tensor({0, -1})), "f: label -1; there are 4 classes");
  EXPECT_EQ(told(images, torch::tensor({0, 4})), "f: label 4; there are 4 classes");
  EXPECT_EQ(told(images, torch::tensor({0})), "f: 2 images but 1 labels");
  EXPECT_NE(told(images[0], torch::tensor({0})).find("[N, C, H, W]"), std::string::npos);
  const ImageSet set{images, torch::tensor({0, 2}), {}};
  EXPECT_EQ(refusal<FormatError>([&] {
              check_classes(set, {"a", "b", "c"}, "f");
            }),
            "f: none of 2 images is of class 1 (b)");
}

TEST(Normalize, SubtractsTheMeanAndDividesByTheDeviation) {
  const auto images = torch::full({1, 1, 2, 2}, 255, torch::kUInt8);
  EXPECT_NEAR(normalize(images, {{0.5}, {0.25}})[0][0][0][0].item<float>(), 2.0F, 1e-6);
  EXPECT_THROW(normalize(images, {{0.5, 0.5}, {1, 1}}), ArgumentError);
}

}  // namespace
}  // namespace moekit::data
