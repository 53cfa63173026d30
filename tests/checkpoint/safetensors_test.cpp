#include "moekit/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>

#include "moekit/core/error.h"
#include "moekit/core/files.h"

namespace moekit::checkpoint {
namespace {
namespace fs = std::filesystem;

class SafetensorsTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = fs::temp_directory_path() / concat("moekit-", ::getpid(), ".safetensors");
  }
  void TearDown() override { fs::remove(path_); }
  void write_raw(const std::string& header, const std::string& data) {
    const uint64_t length = header.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    write_file_atomic(path_, bytes + header + data);
  }
  fs::path path_;
};

TEST_F(SafetensorsTest, RoundTripsEveryDtypeAndShape) {
  TensorFile file;
  file.metadata["who"] = "test";
  for (const auto type :
       {torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kInt64,
        torch::kInt32, torch::kInt16, torch::kInt8, torch::kUInt8, torch::kBool}) {
    file.tensors.emplace_back(c10::toString(type), torch::randint(0, 2, {3, 2}).to(type));
  }
  file.tensors.emplace_back("scalar", torch::tensor(7, torch::kLong));
  file.tensors.emplace_back("empty", torch::zeros({0, 4}));
  file.tensors.emplace_back("strided", torch::arange(6).reshape({2, 3}).t());
  write_safetensors(path_, file);
  const auto back = read_safetensors(path_);
  EXPECT_EQ(back.metadata.at("who"), "test");
  for (const auto& [name, tensor] : file.tensors) {
    EXPECT_EQ(back.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(torch::equal(back.at(name), tensor)) << name;
  }
}

TEST_F(SafetensorsTest, ReadsAFileWrittenByHandAfterTheSpecification) {
  write_raw(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
            std::string("\x00\x00\x80\x3f\x00\x00\x00\x40", 8));
  EXPECT_TRUE(torch::equal(read_safetensors(path_).at("x"), torch::tensor({1.0F, 2.0F})));
}

TEST_F(SafetensorsTest, RefusesLyingFiles) {
  const std::string eight(8, 'x');
  for (
      const char* header : {
          "no json",
          "[]",
          R"({"x":1})",
          R"({"x":{"dtype":"F32","shape":[2]}})",
          R"({"x":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
          R"({"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
          R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
          R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          R"({"__metadata__":{"a":1},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      }) {
    write_raw(header, eight);
    EXPECT_THROW(read_safetensors(path_), FormatError) << header;
  }
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  TensorFile file;
  file.tensors.emplace_back("x", torch::ones({4}));
  write_safetensors(path_, file);
  const std::string bytes = read_file(path_);
  for (size_t length = 0; length < bytes.size(); ++length) {
    write_file_atomic(path_, bytes.substr(0, length));
    EXPECT_THROW(read_safetensors(path_), FormatError) << length;
  }
  std::string huge(8, '\xff');
  write_file_atomic(path_, huge + "{}");
  EXPECT_THROW(read_safetensors(path_), FormatError);
}

TEST_F(SafetensorsTest, RefusesTwoTensorsOfOneNameAndMissingFiles) {
  TensorFile file;
  file.tensors.emplace_back("x", torch::ones({1}));
  file.tensors.emplace_back("x", torch::ones({1}));
  EXPECT_THROW(write_safetensors(path_, file), ArgumentError);
  EXPECT_THROW(read_safetensors("/nonexistent/x"), IoError);
}

TEST_F(SafetensorsTest, ThePythonPackageReadsOurs) {
  const std::string python = "python3 -c 'import safetensors.numpy' 2>/dev/null";
  if (std::system(python.c_str()) != 0) GTEST_SKIP() << "Python's safetensors is not installed";
  TensorFile file;
  file.tensors.emplace_back("a.weight", torch::arange(6, torch::kFloat32).reshape({2, 3}));
  write_safetensors(path_, file);
  const std::string check = "python3 -c 'import safetensors.numpy as s; x = s.load_file(\"" +
                            path_.string() +
                            "\")[\"a.weight\"]; assert x.shape == (2, 3) and x[1][2] == 5'";
  EXPECT_EQ(std::system(check.c_str()), 0);
}

}  // namespace
}  // namespace moekit::checkpoint
