#include <gtest/gtest.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/data/checksum.h"
#include "moekit/data/cifar.h"
#include "moekit/data/compressed.h"
#include "moekit/data/idx.h"
#include "moekit/data/image_dataset.h"

namespace moekit::data {
namespace {
namespace fs = std::filesystem;

std::string big_endian(uint32_t v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
          static_cast<char>(v)};
}

std::string idx(const std::vector<uint32_t>& sizes, const std::string& payload, char type = 8) {
  std::string out = {0, 0, type, static_cast<char>(sizes.size())};
  for (const auto size : sizes) out += big_endian(size);
  return out + payload;
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(bytes.size() + 200, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
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
  EXPECT_THROW(read_unpacked(write("h.xz", xz.substr(0, 40)), 100), FormatError);
}

TEST_F(ReadersTest, CifarReadsRecordsAndTheFineLabel) {
  std::string record(2, '\3');
  record[1] = 7;
  record += std::string(1024, '\1') + std::string(1024, '\2') + std::string(1024, '\3');
  const auto set = read_cifar({write("t.bin", record + record)}, 2, 100);
  EXPECT_EQ(set.size(), 2);
  EXPECT_EQ(set.labels[1].item<int64_t>(), 7);
  EXPECT_EQ(set.images[0][2][31][31].item<int>(), 3);
  EXPECT_THROW(read_cifar({write("t.bin", record + "x")}, 2, 100), FormatError);
  EXPECT_THROW(read_cifar({write("t.bin", record)}, 2, 5), FormatError);  // label 7 of 5
  EXPECT_THROW(read_cifar({folder_ / "none"}, 1, 10), IoError);
}

TEST(Normalize, SubtractsTheMeanAndDividesByTheDeviation) {
  const auto images = torch::full({1, 1, 2, 2}, 255, torch::kUInt8);
  EXPECT_NEAR(normalize(images, {{0.5}, {0.25}})[0][0][0][0].item<float>(), 2.0F, 1e-6);
  EXPECT_THROW(normalize(images, {{0.5, 0.5}, {1, 1}}), ArgumentError);
}

TEST(Sha256, MatchesThePublishedTestVector) {
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace moekit::data
