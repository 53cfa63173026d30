#include "moekit/checkpoint/sharded.h"

#include "moekit/checkpoint/memory_tensors.h"
#include "tests/checkpoint/file_test.h"
#include "tests/support/growth.h"

namespace moekit::checkpoint {
namespace {

class ShardedTest : public FileTest {
 protected:
  void SetUp() override {
    FileTest::SetUp();
    index_ = folder_ / "model.safetensors.index.json";
    write_safetensors(folder_ / "one",
                      MemoryTensors{{"b", torch::ones({2})}, {"a", torch::ones({})}});
    write_safetensors(folder_ / "two", MemoryTensors{{"c", torch::arange(3)}});
  }
  /// Opens an index of this weight map.
  std::unique_ptr<TensorSource> open(const std::string& weight_map) {
    write_file_atomic(index_, "{\"weight_map\":" + weight_map + "}");
    return open_tensors(folder_);
  }
  /// What opening the index, or then reading `tensor`, says.
  std::string refusal(const std::string& weight_map, const char* tensor = "a") {
    return message_of<FormatError>([&] { open(weight_map)->read(tensor); });
  }
  std::filesystem::path index_;
};

TEST(NameIndex, FindsEachNameWithAndWithoutRoomMadeBefore) {
  for (const size_t reserved : {0, 1, 1000}) {
    NameIndex index;
    EXPECT_FALSE(index.find("0"));
    index.reserve(reserved);
    for (size_t i = 0; i < 1000; ++i) {
      EXPECT_FALSE(index.find(std::to_string(i)));
      EXPECT_TRUE(index.add(std::to_string(i)));
      EXPECT_FALSE(index.add(std::to_string(i / 2)));
    }
    for (size_t i = 0; i < 1000; ++i) EXPECT_EQ(index.find(std::to_string(i)), i);
    EXPECT_EQ(index.names().size(), 1000U);
  }
}

TEST_F(ShardedTest, ReadsTensorsOfAllFilesInTheOrderOfTheIndex) {
  write_file_atomic(index_, R"({"metadata": {"total_size": 36, "format": "pt", "x": {"y": [1]}},
                                "more": [{"a": [null, true, -1, 0.5, "s"]}],
                                "weight_map": {"c": "two", "a": "one", "b": "one"}})");
  const auto file = open_tensors(index_);
  EXPECT_EQ(file->names(), (std::vector<std::string>{"c", "a", "b"}));
  EXPECT_EQ(file->metadata(), (Metadata{{"total_size", "36"}, {"format", "pt"}}));
  EXPECT_TRUE(torch::equal(file->read("b"), torch::ones({2})));
  EXPECT_TRUE(torch::equal(file->read("c", torch::kInt), torch::arange(3, torch::kInt)));
  EXPECT_EQ(file->info("a").shape, std::vector<int64_t>{});
  expect_in(message_of<FormatError>([&] { file->read("d"); }), {index_.c_str(), "\"d\""});
}

TEST_F(ShardedTest, AFileIsOpenedWhenItIsNeeded) {
  const std::string map = R"({"a": "one", "b": "one", "c": "two"})";
  write_file_atomic(folder_ / "two", "no safetensors file");
  const auto file = open(map);
  EXPECT_EQ(file->read("a").item<float>(), 1.0F);
  EXPECT_TRUE(file->contains("c"));
  expect_in(message_of<FormatError>([&] { file->info("c"); }), {(folder_ / "two").c_str()});
  // A file that was refused is tried anew.
  write_safetensors(folder_ / "two", MemoryTensors{{"c", torch::arange(3)}});
  EXPECT_TRUE(torch::equal(file->read("c"), torch::arange(3)));
}

TEST_F(ShardedTest, RefusesIndexAndFilesThatDisagree) {
  const std::string one = (folder_ / "one").string();
  expect_in(refusal(R"({"a": "one", "b": "one", "c": "one"})"), {one.c_str(), "\"c\""});
  expect_in(refusal(R"({"a": "one"})"), {one.c_str(), "\"b\"", index_.c_str()});
  expect_in(refusal(R"({"a": "one", "b": "two", "c": "two"})"), {one.c_str(), "\"b\"", "two"});
  expect_in(refusal(R"({"a": "one", "b": "three"})"), {index_.c_str(), "b", "three"});
  expect_in(refusal(R"({"a": "one", "b": "one", "a": "two"})"), {index_.c_str(), "a", "twice"});
}

TEST_F(ShardedTest, RefusesFilesOutsideTheFolder) {
  std::filesystem::create_directories(folder_ / "sub");
  std::filesystem::copy(folder_ / "two", folder_ / "sub" / "two");
  for (const char* name :
       {"sub/two", "../one", "/etc/passwd", "..", ".", "", "sub", "a\\\\b", "one\\u0000"}) {
    expect_in(refusal(concat(R"({"a": ")", name, "\"}")), {index_.c_str(), "\"weight_map.a\""});
  }
}

TEST_F(ShardedTest, RefusesAnIndexThatIsNone) {
  for (const char* text :
       {"", "[]", "3", "{}", "{\"weight_map\":3}", "{\"weight_map\":[]}",
        "{\"weight_map\":{\"a\":1}}", "{\"weight_map\":{\"a\":{}}}",
        "{\"weight_map\":{},\"weight_map\":{}}", "{\"weight_map\":{\"\xff\":\"one\"}}"}) {
    write_file_atomic(index_, text);
    expect_in(message_of<FormatError>([&] { open_tensors(index_); }), {index_.c_str()});
  }
  std::string deep = "{\"x\":";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  write_file_atomic(index_, deep);
  EXPECT_THROW(open_tensors(index_), FormatError);
}

TEST_F(ShardedTest, AnIndexCostsAsMuchAsItHasTensors) {
  const auto index = [&](int n) {
    std::string text = "{\"weight_map\":{\"x\":\"one\"";
    for (int i = 0; i < n; ++i) text += concat(",\"model.layers.", i, ".weight\":\"two\"");
    write_file_atomic(index_, text + "}}");
    return index_;
  };
  EXPECT_LT(growth(5000, index, [](const auto& path) { ShardedTensors{path}; }), kLinearGrowth);
}

TEST_F(ShardedTest, OpensAFolderWithOneFileAndRefusesOneWithout) {
  EXPECT_THROW(open_tensors(folder_), IoError);
  EXPECT_THROW(open_tensors(index_), IoError);
  EXPECT_THROW(open_tensors(folder_ / "none"), IoError);
  write_safetensors(path_, MemoryTensors{{"z", torch::ones({1})}});
  EXPECT_EQ(open_tensors(folder_)->names(), std::vector<std::string>{"z"});
  EXPECT_EQ(open_tensors(path_)->names(), std::vector<std::string>{"z"});
}

TEST_F(ShardedTest, WritesOneFileOutOfMany) {
  const auto file = open(R"({"b": "one", "c": "two", "a": "one"})");
  write_safetensors(path_, *file);
  const auto joined = open_tensors(path_);
  EXPECT_EQ(joined->names(), file->names());
  for (const auto& name : file->names()) {
    EXPECT_TRUE(torch::equal(joined->read(name), file->read(name))) << name;
  }
}

}  // namespace
}  // namespace moekit::checkpoint
