#include "moekit/core/json.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <functional>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "tests/support/growth.h"

namespace moekit {
namespace {
namespace fs = std::filesystem;

std::string text_error(std::string_view text) {
  try {
    parse_json(text, "f.json");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

std::string nested(const std::string& open, size_t depth, const std::string& close) {
  std::string text;
  for (size_t i = 0; i < depth; ++i) text += open;
  text += "1";
  for (size_t i = 0; i < depth; ++i) text += close;
  return text;
}

TEST(ParseJson, ReadsEveryKindOfValueAsNlohmannDoes) {
  const std::string text =
      R"({"z":[1,-2,18446744073709551615,0.1,1e300,-0.0,true,false,null],"a":{"\u00e4\n":""},"":[]})";
  const Json ours = parse_json(text, "f");
  EXPECT_EQ(ours, Json::parse(text));
  EXPECT_EQ(ours.dump(), Json::parse(text).dump());
  EXPECT_TRUE(ours["z"][0].is_number_unsigned());
  EXPECT_TRUE(parse_json("{}", "f").is_object());
  EXPECT_EQ(parse_json(" 7\n", "f"), Json(7));
}

TEST(ParseJson, RefusesDeepNestingAndStaysUpright) {
  EXPECT_NO_THROW(parse_json(nested("[", kMaxJsonDepth, "]"), "f"));
  EXPECT_EQ(text_error(nested("[", kMaxJsonDepth + 1, "]")), "f.json: nested deeper than 64");
  EXPECT_EQ(text_error(nested("[", 500'000, "]")), "f.json: nested deeper than 64");
  EXPECT_EQ(text_error(nested("{\"a\":", 500'000, "}")), "f.json: nested deeper than 64");
}

TEST(ParseJson, RefusesAKeyThatStandsTwiceWithItsPath) {
  EXPECT_EQ(text_error(R"({"a":{"b":1,"c":2,"b":1}})"),
            "f.json: \"a.b\": the key stands there twice");
  std::string many = "{";
  for (int i = 0; i < 100; ++i) many += concat("\"k", i, "\":0,");
  EXPECT_EQ(text_error(many + "\"k7\":0}"), "f.json: \"k7\": the key stands there twice");
  EXPECT_EQ(text_error(R"([{"a":1},{"a":1}])"), "no error");
}

TEST(ParseJson, RefusesWhatIsNoJsonInOurWords) {
  for (const char* text :
       {"", " ", "{", "[1,]", "{\"a\"}", "nul", "1 2", "[1e999]", "\"a", "\"\x01\"", "\"\xff\"",
        "{\"\xc3(\":1}", "NaN", "'a'", "[01]", "\"\\ud800\""}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(text_error(text).substr(0, 11), "f.json: is ");
  }
}

TEST(ParseJson, CostsAsMuchAsTheTextIsLong) {
  const auto parse = [](const std::string& text) { parse_json(text, "f"); };
  const auto object = [](int n) {
    std::string text = "{\"last\":0";
    for (int i = 0; i < n; ++i) text += concat(",\"key", i, "\":{\"a\":", i, "}");
    return text + "}";
  };
  EXPECT_LT(growth(5000, object, parse), kLinearGrowth);
  const auto array = [](int n) {
    std::string text = "[0";
    for (int i = 0; i < n; ++i) text += concat(",[", i, "]");
    return text + "]";
  };
  EXPECT_LT(growth(10'000, array, parse), kLinearGrowth);
}

class JsonFileTest : public testing::Test {
 protected:
  void SetUp() override {
    file_ = fs::temp_directory_path() / concat("moekit-json-", ::getpid(), ".jsonl");
  }
  void TearDown() override { fs::remove(file_); }
  std::string error_of(const std::function<void()>& action) {
    try {
      action();
    } catch (const FormatError& error) {
      return error.what();
    }
    return "no error";
  }
  fs::path file_;
};

TEST_F(JsonFileTest, NamesTheFileAndOfLinesTheLine) {
  write_file_atomic(file_, "{\"a\":1}\n{\"a\":}\n");
  EXPECT_EQ(error_of([&] { read_json(file_); }), file_.string() + ": is no JSON");
  EXPECT_EQ(error_of([&] { read_json_lines(file_); }), file_.string() + ":2: is no JSON");
  write_file_atomic(file_, "{}\n" + nested("[", 500'000, "]") + "\n");
  EXPECT_EQ(error_of([&] { read_json_lines(file_); }),
            file_.string() + ":2: nested deeper than 64");
  EXPECT_EQ(error_of([&] { read_json(file_, 100); }).substr(0, file_.string().size()),
            file_.string());
  EXPECT_THROW(read_json(file_.string() + ".none"), IoError);
}

TEST_F(JsonFileTest, ReadsALineEach) {
  write_file_atomic(file_, "{\"a\":1}\n[2]\n3");
  const auto lines = read_json_lines(file_);
  EXPECT_EQ(lines, (std::vector<Json>{{{"a", 1}}, Json::array({2}), 3}));
  write_file_atomic(file_, "");
  EXPECT_TRUE(read_json_lines(file_).empty());
}

TEST_F(JsonFileTest, LinesCostAsMuchAsThereAre) {
  const auto metrics = [&](int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += concat("{\"epoch\":", i, ",\"test\":{\"error\":0.5}}\n");
    write_file_atomic(file_, text);
    return file_;
  };
  EXPECT_LT(growth(3000, metrics, [](const fs::path& file) { read_json_lines(file); }),
            kLinearGrowth);
}

}  // namespace
}  // namespace moekit
