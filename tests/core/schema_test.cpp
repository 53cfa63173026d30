#include "moekit/core/schema.h"

#include <gtest/gtest.h>

#include <cmath>

#include "moekit/core/files.h"
#include "moekit/core/json.h"

namespace moekit {
namespace {

std::string refusal(const Schema& schema, const Json& value) {
  try {
    schema.check(value, "f.json");
  } catch (const FormatError& error) {
    return error.what();
  }
  return "";
}

TEST(Schema, NamesFileKeyAndValue) {
  const auto schema = Schema::object(
      {{"epoch", Schema::count()},
       {"test", Schema::object({{"error", Schema::number(0, 1)}})},
       {"layers", Schema::map(Schema::list(Schema::list(Schema::figure()))), false}});
  const Json good = {{"epoch", 3}, {"test", {{"error", 0.5}, {"other", 1}}}, {"more", nullptr}};
  EXPECT_EQ(refusal(schema, good), "");
  const auto with = [&](const char* pointer, const Json& value) {
    Json bad = good;
    bad[Json::json_pointer(pointer)] = value;
    return refusal(schema, bad);
  };
  EXPECT_EQ(with("/epoch", -1), "f.json: epoch must be a whole number 0..2^62; got -1");
  EXPECT_EQ(with("/epoch", nullptr), "f.json: epoch must be a whole number 0..2^62; got null");
  EXPECT_EQ(with("/epoch", 18446744073709551615U),
            "f.json: epoch must be a whole number 0..2^62; got 18446744073709551615");
  EXPECT_EQ(with("/epoch", 2.5), "f.json: epoch must be a whole number 0..2^62; got 2.5");
  EXPECT_EQ(with("/test/error", 1.5),
            "f.json: test.error must be a finite number from 0 to 1; got 1.5");
  EXPECT_EQ(with("/test/error", nullptr),
            "f.json: test.error must be a finite number from 0 to 1; got null");
  EXPECT_EQ(with("/test", Json::array()), "f.json: test must be an object; got a list");
  EXPECT_EQ(with("/layers", {{"moe", {{1, 2}, {3, "x"}}}}),
            "f.json: layers.moe[1][1] must be a number or null; got \"x\"");
  EXPECT_EQ(refusal(schema, {{"epoch", 3}}), "f.json: lacks test");
  EXPECT_EQ(refusal(schema, nullptr), "f.json: must be an object; got null");
  EXPECT_LT(refusal(Schema::count(), std::string(10000, 'x')).size(), 200U);
  EXPECT_TRUE(std::isnan(figure_value(nullptr)));
  EXPECT_EQ(refusal(Schema::figure(0), nullptr), "");
  EXPECT_EQ(refusal(Schema::figure(0), 0), "");
  EXPECT_EQ(refusal(Schema::figure(0), -0.5), "f.json: must be a number from 0 or null; got -0.5");
}

struct State {
  int64_t step = 0;
  std::vector<double> times;
  bool stopped = false;
  template <typename Field>
  void visit(Field&& field) {
    field("step", step, "");
    field("times", times, "");
    field("stopped", stopped, "");
  }
};

TEST(BindState, WantsEveryFieldAndNoOther) {
  State state;
  bind_state({{"step", 7}, {"times", {-1, 2.5}}, {"stopped", true}}, "f", state);
  EXPECT_EQ(state.step, 7);
  EXPECT_EQ(state.times, (std::vector<double>{-1, 2.5}));
  const auto refused = [](const Json& json) {
    State out;
    EXPECT_THROW(bind_state(json, "f", out), FormatError) << json.dump();
  };
  refused({{"step", 7}, {"times", {1}}});
  refused({{"step", -7}, {"times", {1}}, {"stopped", true}});
  refused({{"step", 7}, {"times", {nullptr}}, {"stopped", true}});
  refused({{"step", 7}, {"times", {1}}, {"stopped", 1}});
  refused({{"step", 7}, {"times", {1}}, {"stopped", true}, {"more", 1}});
  refused(nullptr);
}

TEST(JsonFile, ReadsValuesAndLinesAndNamesWhatIsNone) {
  namespace fs = std::filesystem;
  const fs::path file = fs::temp_directory_path() / concat("moekit-json-", ::getpid());
  write_json(file, {{"a", 1}});
  EXPECT_EQ(read_json(file), (Json{{"a", 1}}));
  write_file_atomic(file, "{\"a\": 1}\n{\"a\": 2}\n");
  EXPECT_EQ(read_json_lines(file).size(), 2U);
  EXPECT_THROW(read_json(file), FormatError);
  write_file_atomic(file, "{}\n{\n");
  try {
    read_json_lines(file);
    ADD_FAILURE();
  } catch (const FormatError& error) {
    EXPECT_EQ(std::string(error.what()), file.string() + ":2: is no JSON");
  }
  fs::remove(file);
}

}  // namespace
}  // namespace moekit
