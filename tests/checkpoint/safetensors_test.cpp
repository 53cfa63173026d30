#include "moekit/checkpoint/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <fstream>

#include "moekit/checkpoint/memory_tensors.h"
#include "tests/checkpoint/file_test.h"
#include "tests/support/growth.h"

namespace moekit::checkpoint {
namespace {

class SafetensorsTest : public FileTest {
 protected:
  void expect_refused(const std::string& bytes) {
    write_file_atomic(path_, bytes);
    expect_in(message_of<FormatError>([&] { MappedTensors{path_}; }), {path_.c_str()});
  }
};

TEST_F(SafetensorsTest, RoundTripsEveryTypeAndShapeOfLibtorch) {
  MemoryTensors file({}, {{"who", "test"}});
  for (const auto type :
       {torch::kFloat64, torch::kFloat32, torch::kFloat16, torch::kBFloat16, torch::kInt64,
        torch::kInt32, torch::kInt16, torch::kInt8, torch::kUInt8, torch::kBool}) {
    file.add(c10::toString(type), torch::randint(0, 2, {3, 2}).to(type));
  }
  file.add("scalar", torch::tensor(7, torch::kLong));
  file.add("empty", torch::zeros({0, 4}));
  file.add("strided", torch::arange(6).reshape({2, 3}).t());
  write_safetensors(path_, file);
  const MappedTensors back(path_);
  EXPECT_EQ(back.metadata(), file.metadata());
  EXPECT_EQ(back.names(), file.names());
  for (const auto& name : file.names()) {
    EXPECT_EQ(back.read(name).scalar_type(), file.read(name).scalar_type()) << name;
    EXPECT_TRUE(torch::equal(back.read(name), file.read(name))) << name;
  }
}

TEST_F(SafetensorsTest, ReadsAFileWrittenByHandAfterTheSpecification) {
  write_file_atomic(path_, raw(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                               std::string("\x00\x00\x80\x3f\x00\x00\x00\x40", 8)));
  const MappedTensors file(path_);
  EXPECT_TRUE(torch::equal(file.read("x"), torch::tensor({1.0F, 2.0F})));
  EXPECT_TRUE(torch::equal(file.read("x", torch::kLong), torch::tensor({1, 2}, torch::kLong)));
  EXPECT_EQ(file.info("x").bytes, 8U);
  EXPECT_TRUE(file.contains("x"));
  EXPECT_FALSE(file.contains("y"));
  expect_in(message_of<FormatError>([&] { file.read("y"); }), {path_.c_str(), "\"y\""});
}

TEST_F(SafetensorsTest, NamesComeInTheOrderOfTheData) {
  write_file_atomic(path_, raw(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                               R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                               "\x05\x06"));
  const MappedTensors file(path_);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(file.read("b").item<int>(), 6);
}

TEST_F(SafetensorsTest, RefusesLyingFiles) {
  const std::string eight(8, 'x');
  for (
      const char* header : {
          "no json",
          "[]",
          "7",
          "",
          R"({"x":1})",
          R"({"x":[]})",
          R"({"x":{"dtype":"F32","shape":[2]}})",
          R"({"x":{"shape":[2],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","data_offsets":[0,8]}})",
          R"({"x":{"dtype":7,"shape":[2],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})",
          R"({"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
          R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
          R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,0]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[0,281474976710656,281474976710656],"data_offsets":[8,8]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}})",
          R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":{"a":{"b":[]}}}})",
          R"({"__metadata__":{"a":1},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          R"({"__metadata__":{"a":["b"]},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          R"({"__metadata__":"a","x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          R"({"__metadata__":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
      }) {
    SCOPED_TRACE(header);
    expect_refused(raw(header, eight));
  }
  std::string dimensions = "1";
  for (int i = 0; i < 64; ++i) dimensions += ",1";
  expect_refused(
      raw(concat(R"({"x":{"dtype":"F64","shape":[)", dimensions, R"(],"data_offsets":[0,8]}})"),
          eight));
}

TEST_F(SafetensorsTest, RefusesKeysThatStandTwice) {
  const std::string eight(8, 'x');
  // Each of the two alone, and the last one, would be a good file.
  expect_refused(raw(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                     R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                     eight));
  expect_refused(
      raw(R"({"x":{"dtype":"F64","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", eight));
  expect_refused(
      raw(R"({"x":{"dtype":"F32","shape":[2],"shape":[],"data_offsets":[0,8]}})", eight));
  expect_refused(raw(R"({"__metadata__":{"a":"1","a":"2"},)"
                     R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                     eight));
}

TEST_F(SafetensorsTest, RefusesTextThatIsNotUtf8AndDeepNesting) {
  expect_refused(raw("{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "x"));
  expect_refused(raw("{\"__metadata__\":{\"a\":\"\xc3(\"}}", ""));
  expect_refused(raw(std::string(1'000'000, '['), ""));
  std::string nested;
  for (int i = 0; i < 100'000; ++i) nested += "{\"a\":";
  expect_refused(raw(nested, ""));
}

TEST_F(SafetensorsTest, RefusesEveryTruncationAndTrailingBytes) {
  write_safetensors(path_, MemoryTensors{{"x", torch::ones({4})}});
  const std::string bytes = read_file(path_);
  for (size_t length = 0; length < bytes.size(); ++length) {
    SCOPED_TRACE(length);
    expect_refused(bytes.substr(0, length));
  }
  expect_refused(bytes + "x");
  expect_refused(std::string(8, '\xff') + "{}");
  const uint64_t above = kMaxHeaderBytes + 1;
  expect_refused(std::string(reinterpret_cast<const char*>(&above), 8) + std::string(above, ' '));
}

TEST_F(SafetensorsTest, RefusesWhatIsNoFile) {
  const auto pipe = folder_ / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_THROW(MappedTensors{folder_ / "none"}, IoError);
  EXPECT_THROW(MappedTensors{folder_}, IoError);
  EXPECT_THROW(MappedTensors{pipe}, IoError);
}

TEST_F(SafetensorsTest, TensorsOutliveTheSourceTheFileAndEachOther) {
  write_safetensors(path_, MemoryTensors{{"x", torch::arange(1000)}, {"y", torch::ones({3})}});
  auto source = std::make_unique<MappedTensors>(path_);
  auto x = source->read("x");
  const auto y = source->read("y");
  source.reset();
  std::filesystem::remove(path_);
  EXPECT_TRUE(torch::equal(y, torch::ones({3})));
  EXPECT_TRUE(torch::equal(x, torch::arange(1000)));
  const auto part = x.slice(0, 990);
  x.reset();
  EXPECT_EQ(part[9].item<int64_t>(), 999);
}

TEST_F(SafetensorsTest, WritingIntoATensorReachesViewsOfTheMappingButNotTheFile) {
  write_safetensors(path_, MemoryTensors{{"x", torch::zeros({4})}});
  const std::string before = read_file(path_);
  const MappedTensors file(path_);
  file.read("x").fill_(5);
  EXPECT_TRUE(torch::equal(file.read("x"), torch::full({4}, 5.0)));
  EXPECT_EQ(read_file(path_), before);
  EXPECT_TRUE(torch::equal(MappedTensors(path_).read("x"), torch::zeros({4})));
}

TEST_F(SafetensorsTest, ReadsDataAtAddressesThatDoNotFitTheElements) {
  write_safetensors(path_, MemoryTensors{{"odd", torch::ones({3}, torch::kBool)},
                                         {"x", torch::arange(5, torch::kFloat64)},
                                         {"half", torch::ones({1}, torch::kBFloat16)}});
  const MappedTensors file(path_);
  const auto x = file.read("x");
  EXPECT_EQ(reinterpret_cast<uintptr_t>(x.data_ptr()) % sizeof(double), 0U);
  EXPECT_TRUE(torch::equal(x, torch::arange(5, torch::kFloat64)));
  EXPECT_EQ(file.read("half").item<float>(), 1.0F);
}

int64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  int64_t pages = 0;
  in >> pages >> pages;  // the second number
  return pages * ::sysconf(_SC_PAGESIZE);
}

TEST_F(SafetensorsTest, OfAFileOf50GigabytesOnlyWhatIsAskedForIsRead) {
  constexpr int64_t kHuge = 50'000'000'000;
  std::string header = concat(
      R"({"huge":{"dtype":"U8","shape":[)", kHuge, R"(],"data_offsets":[0,)", kHuge,
      R"(]},"small":{"dtype":"F32","shape":[2],"data_offsets":[)", kHuge, ",", kHuge + 8, "]}}");
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::string start = raw(header, "");
  write_file_atomic(path_, start);
  const auto end = static_cast<off_t>(start.size()) + kHuge;
  const int fd = ::open(path_.c_str(), O_WRONLY);
  const float values[] = {3.0F, 4.0F};
  ASSERT_EQ(::pwrite(fd, values, sizeof(values), end), 8);  // what lies before is a hole
  ::close(fd);
  torch::ones({2}).add_(1);  // libtorch's own first-time memory is not to count
  const int64_t before = resident_bytes();
  const MappedTensors file(path_);
  EXPECT_TRUE(torch::equal(file.read("small"), torch::tensor({3.0F, 4.0F})));
  EXPECT_EQ(file.read("huge").slice(0, kHuge - 1).item<int>(), 0);
  EXPECT_LT(resident_bytes() - before, 16 << 20);
}

/// A file of n tensors of one byte each.
std::string many_tensors(int n) {
  std::string header = "{";
  for (int i = 0; i < n; ++i) {
    header += concat(i == 0 ? "" : ",", "\"model.layers.", i,
                     R"(.weight":{"dtype":"U8","shape":[1],"data_offsets":[)", i, ",", i + 1, "]}");
  }
  const uint64_t length = header.size() + 1;
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + "}" +
         std::string(static_cast<size_t>(n), '\5');
}

TEST_F(SafetensorsTest, AHeaderCostsAsMuchAsItHasTensors) {
  const auto file = [&](int n) {
    write_file_atomic(path_, many_tensors(n));
    return path_;
  };
  EXPECT_LT(growth(5000, file, [](const auto& path) { MappedTensors{path}; }), kLinearGrowth);
  const auto tensors = [&](int n) {
    write_file_atomic(path_, many_tensors(n));
    return std::make_shared<MappedTensors>(path_);
  };
  EXPECT_LT(growth(2000, tensors,
                   [&](const auto& source) { write_safetensors(folder_ / "copy", *source); }),
            kLinearGrowth);
}

TEST_F(SafetensorsTest, ATensorThatOnlyDiffersInAnEscapeIsTheSame) {
  expect_refused(raw(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                     R"("\u0078":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                     "ab"));
}

TEST_F(SafetensorsTest, RefusesATensorWithTheNameOfTheMetadata) {
  expect_refused(raw(R"({"__metadata__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "x"));
  expect_refused(raw(R"({"__metadata__":{"a":"b"},"__metadata__":{"c":"d"}})", ""));
}

TEST_F(SafetensorsTest, NamesTensorsOnOneLine) {
  write_file_atomic(path_,
                    raw(R"({"a\nb\u0000":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "ab"));
  const auto message = message_of<FormatError>([&] { MappedTensors{path_}; });
  expect_in(message, {path_.c_str(), R"("a\nb\u0000")"});
}

}  // namespace
}  // namespace moekit::checkpoint
