#include <sys/resource.h>

#include <csignal>

#include "moekit/checkpoint/memory_tensors.h"
#include "tests/checkpoint/file_test.h"

namespace moekit::checkpoint {
namespace {

using WriterTest = FileTest;

TEST_F(WriterTest, WritesTheSameBytesAsEver) {
  MemoryTensors file({{"b.weight", torch::tensor({{1.0F, -2.0F}})},
                      {"a \"\xc3\xa9\"", torch::tensor({true, false, true})},
                      {"n", torch::tensor(258, torch::kShort)},
                      {"none", torch::zeros({0, 3}, torch::kBFloat16)}},
                     {{"who", "x\ny"}, {"format", "pt"}});
  write_safetensors(path_, file);
  // 8 bytes of length, header padded with spaces to a multiple of 8, data back to back.
  std::string header = R"({"__metadata__":{"format":"pt","who":"x\ny"},)"
                       R"("b.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
                       "\"a \\\"\xc3\xa9\\\"\":"
                       R"({"dtype":"BOOL","shape":[3],"data_offsets":[8,11]},)"
                       R"("n":{"dtype":"I16","shape":[],"data_offsets":[11,13]},)"
                       R"("none":{"dtype":"BF16","shape":[0,3],"data_offsets":[13,13]}})";
  while (header.size() % 8 != 0) header += ' ';
  const std::string data("\x00\x00\x80\x3f\x00\x00\x00\xc0\x01\x00\x01\x02\x01", 13);
  EXPECT_EQ(read_file(path_), raw(header, data));
  write_safetensors(path_, MemoryTensors());
  EXPECT_EQ(read_file(path_), raw("{}      ", ""));
}

TEST_F(WriterTest, StreamsEveryDtypeOfTheFormat) {
  const std::pair<const char*, torch::ScalarType> dtypes[] = {
      {"BOOL", torch::kBool},     {"U8", torch::kUInt8},      {"I8", torch::kInt8},
      {"F8_E4M3", torch::kUInt8}, {"F8_E5M2", torch::kUInt8}, {"I16", torch::kInt16},
      {"U16", torch::kInt16},     {"F16", torch::kFloat16},   {"BF16", torch::kBFloat16},
      {"I32", torch::kInt32},     {"U32", torch::kInt32},     {"F32", torch::kFloat32},
      {"F64", torch::kFloat64},   {"I64", torch::kInt64},     {"U64", torch::kInt64}};
  std::vector<TensorInfo> infos;
  for (const auto& [name, code] : dtypes) {
    infos.push_back(make_tensor_info(name, parse_dtype(name).value(), {2, 3}));
  }
  const auto values = torch::tensor({{0, 1, 1}, {1, 0, 1}});
  SafetensorsWriter writer(path_, infos, {{"k", "v"}});
  for (const auto& [name, code] : dtypes) writer.write(name, values.to(code));
  writer.commit();

  const MappedTensors file(path_);
  EXPECT_EQ(file.metadata().at("k"), "v");
  for (const auto& [name, code] : dtypes) {
    EXPECT_EQ(concat(file.info(name).dtype), name);
    const auto codes = file.read_codes(name);
    EXPECT_EQ(codes.scalar_type(), code) << name;
    EXPECT_TRUE(torch::equal(codes, values.to(code))) << name;
    if (is_torch_dtype(file.info(name).dtype)) {
      EXPECT_TRUE(torch::equal(file.read(name), values.to(code))) << name;
    } else {
      expect_in(message_of<FormatError>([&] { file.read(name); }), {path_.c_str(), name});
    }
  }
  const auto copy = folder_ / "copy";
  write_safetensors(copy, file);
  EXPECT_EQ(read_file(copy), read_file(path_));
}

TEST_F(WriterTest, RefusesTensorsThatWereNotAnnouncedSo) {
  write_file_atomic(path_, "old");
  {
    SafetensorsWriter writer(
        path_, {make_tensor_info("a", Dtype::kF32, {2}), make_tensor_info("b", Dtype::kF32, {0})});
    const auto refusal = [&](const char* name, const torch::Tensor& tensor) {
      return message_of<ArgumentError>([&] { writer.write(name, tensor); });
    };
    expect_in(refusal("b", torch::zeros({0})), {path_.c_str(), "\"a\" comes next", "\"b\""});
    expect_in(refusal("a", torch::zeros({3})), {path_.c_str(), "\"a\"", "[2]", "[3]"});
    expect_in(refusal("a", torch::zeros({2}, torch::kInt)), {"Float", "Int"});
    writer.write("a", torch::zeros({2}));
    expect_in(message_of<ArgumentError>([&] { writer.commit(); }), {path_.c_str(), "\"b\""});
    writer.write("b", torch::zeros({0}));
    expect_in(refusal("c", torch::zeros({0})), {path_.c_str(), "\"c\""});
    EXPECT_EQ(file_names(),
              (std::vector<std::string>{"model.safetensors", "model.safetensors.tmp"}));
  }
  EXPECT_EQ(read_file(path_), "old");
  EXPECT_EQ(file_names(), std::vector<std::string>{"model.safetensors"});
}

TEST_F(WriterTest, RefusesHeadersThatNoReaderWouldTake) {
  write_file_atomic(path_, "old");
  const auto refused = [&](std::vector<TensorInfo> infos, const Metadata& metadata = {}) {
    expect_in(message_of<ArgumentError>([&] { SafetensorsWriter(path_, infos, metadata); }),
              {path_.c_str()});
  };
  const auto info = make_tensor_info("x", Dtype::kU8, {1});
  refused({info, info});
  refused({make_tensor_info("__metadata__", Dtype::kU8, {1})});
  refused({make_tensor_info("bad \xff", Dtype::kU8, {1})});
  refused({{"x", Dtype::kF32, {2}, 7}});
  refused({{"x", Dtype::kF32, {-1}, 0}});
  refused({info}, {{"\xff", "v"}});
  refused({info}, {{"k", "\xff"}});
  refused({make_tensor_info(std::string(kMaxHeaderBytes, 'x'), Dtype::kU8, {1})});
  EXPECT_EQ(read_file(path_), "old");
  EXPECT_EQ(file_names(), std::vector<std::string>{"model.safetensors"});
}

TEST_F(WriterTest, AFullDiskLeavesTheOldFileAndNoOther) {
  write_safetensors(path_, MemoryTensors{{"x", torch::ones({2})}});
  const std::string before = read_file(path_);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  EXPECT_THROW(write_safetensors(path_, MemoryTensors{{"x", torch::ones({5000})}}), IoError);
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(read_file(path_), before);
  EXPECT_EQ(file_names(), std::vector<std::string>{"model.safetensors"});
}

TEST_F(WriterTest, AFileCanBeReplacedByWhatIsReadFromIt) {
  write_safetensors(path_, MemoryTensors{{"x", torch::arange(100'000)}});
  const std::string before = read_file(path_);
  const MappedTensors file(path_);
  write_safetensors(path_, file);
  EXPECT_EQ(read_file(path_), before);
  EXPECT_TRUE(torch::equal(file.read("x"), torch::arange(100'000)));
}

TEST(MemoryTensors, RefuseTakenNamesAndTypesThatFilesLack) {
  MemoryTensors tensors{{"x", torch::ones({1})}};
  EXPECT_THROW(tensors.add("x", torch::ones({1})), ArgumentError);
  EXPECT_THROW(tensors.add("c", torch::ones({1}, torch::kComplexFloat)), ArgumentError);
  EXPECT_EQ(tensors.names(), std::vector<std::string>{"x"});
  EXPECT_TRUE(tensors.read("x").is_same(tensors.read("x")));
  EXPECT_EQ(tensors.read("x", torch::kInt).scalar_type(), torch::kInt);
  expect_in(message_of<FormatError>([&] { tensors.read("y"); }), {"\"y\""});
}

TEST_F(WriterTest, ThePythonPackageReadsOurs) {
  const std::string python = "python3 -c 'import safetensors.numpy' 2>/dev/null";
  if (std::system(python.c_str()) != 0) GTEST_SKIP() << "Python's safetensors is not installed";
  write_safetensors(path_,
                    MemoryTensors{{"a.weight", torch::arange(6, torch::kFloat32).reshape({2, 3})}});
  const std::string check = "python3 -c 'import safetensors.numpy as s; x = s.load_file(\"" +
                            path_.string() +
                            "\")[\"a.weight\"]; assert x.shape == (2, 3) and x[1][2] == 5'";
  EXPECT_EQ(std::system(check.c_str()), 0);
}

}  // namespace
}  // namespace moekit::checkpoint
