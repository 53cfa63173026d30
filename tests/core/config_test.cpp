#include "moekit/core/config.h"

#include <gtest/gtest.h>

namespace moekit {
namespace {

enum class Fruit { kApple, kPear };

}  // namespace
template <>
struct EnumNames<Fruit> {
  static constexpr std::array<std::pair<Fruit, std::string_view>, 2> kTable{
      {{Fruit::kApple, "apple"}, {Fruit::kPear, "pear"}}};
};
namespace {

struct Inner {
  double rate = 0.5;
  std::vector<int64_t> sizes = {1};
  template <typename Field>
  void visit(Field&& field) {
    field("rate", rate, "a rate");
    field("sizes", sizes, "");
  }
};

struct Outer {
  int64_t count = 3;
  bool on = false;
  std::string name = "x";
  Fruit fruit = Fruit::kApple;
  Inner inner;
  template <typename Field>
  void visit(Field&& field) {
    field("count", count, "");
    field("on", on, "");
    field("name", name, "");
    field("fruit", fruit, "");
    field("inner", inner, "");
  }
};

std::string error_of(const std::string& toml, const std::vector<std::string>& set = {}) {
  try {
    ConfigTree tree = parse_toml(toml, "r.toml");
    for (const auto& assignment : set) apply_override(tree, assignment);
    Outer outer;
    bind_config(tree, outer);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Config, ReadsNestedTablesAndKeepsDefaults) {
  Outer outer;
  bind_config(parse_toml("count = 7\nfruit = \"pear\"\n[inner]\nsizes = [4, 5]\n", "r"), outer);
  EXPECT_EQ(outer.count, 7);
  EXPECT_EQ(outer.fruit, Fruit::kPear);
  EXPECT_EQ(outer.inner.sizes, (std::vector<int64_t>{4, 5}));
  EXPECT_EQ(outer.inner.rate, 0.5);
}

TEST(Config, NamesFileLineAndTheKeyThatWasProbablyMeant) {
  EXPECT_EQ(error_of("count = 1\n\n[inner]\nrat = 1.0\n"),
            "r.toml:4: unknown key inner.rat; did you mean rate?");
}

TEST(Config, RefusesAValueOfAnotherTypeWithWhatWasWantedAndWhatCame) {
  EXPECT_EQ(error_of("count = \"many\"\n"), "r.toml:1: count must be a whole number; got \"many\"");
  EXPECT_EQ(error_of("on = 1\n"), "r.toml:1: on must be true or false; got 1");
  EXPECT_EQ(error_of("fruit = \"plum\"\n"), "r.toml:1: fruit must be apple or pear; got \"plum\"");
  EXPECT_EQ(error_of("inner = 3\n"), "r.toml:1: inner must be a table; got 3");
}

TEST(Config, NamesTheFlagOfAnOverride) {
  EXPECT_EQ(error_of("", {"inner.rate=fast"}),
            "--set inner.rate: inner.rate must be a number; got \"fast\"");
  EXPECT_EQ(error_of("", {"inner.rate"}).substr(0, 16), "--set inner.rate");
  EXPECT_EQ(error_of("count = 1\n", {"count.x=1"}), "--set count.x: count is no table");
}

TEST(Config, OverridesWithNumbersListsAndBareWords) {
  ConfigTree tree = parse_toml("count = 1\n", "r");
  for (const char* set : {"count=2", "inner.rate=3e-4", "inner.sizes=[1, 2]", "name=word"}) {
    apply_override(tree, set);
  }
  Outer outer;
  bind_config(tree, outer);
  EXPECT_EQ(outer.count, 2);
  EXPECT_EQ(outer.inner.rate, 3e-4);
  EXPECT_EQ(outer.inner.sizes.size(), 2U);
  EXPECT_EQ(outer.name, "word");
}

TEST(Config, ReportsTheLineOfASyntaxError) {
  EXPECT_EQ(error_of("count = 1\ncount = \n").substr(0, 9), "r.toml:2:");
}

TEST(Config, WritesTomlThatReadsBackToTheSame) {
  Outer outer;
  outer.name = "quotes \" and \\ and\nlines";
  outer.inner.rate = 0.1;
  const Json json = to_json(outer);
  EXPECT_EQ(parse_toml(to_toml(json), "r").values, json);
}

TEST(Config, ListsEveryKeyOnce) {
  const std::vector<ConfigKey> keys = config_keys(Outer{});
  ASSERT_EQ(keys.size(), 6U);
  EXPECT_EQ(keys[4].path, "inner.rate");
  EXPECT_EQ(keys[4].doc, "a rate");
  EXPECT_EQ(keys[3].doc, "apple or pear");
  EXPECT_EQ(config_keys(Outer{}, "outer")[4].path, "outer.inner.rate");
}

TEST(Config, RefusesAMissingFileByName) {
  EXPECT_THROW(read_toml("/nonexistent/recipe.toml"), IoError);
}

}  // namespace
}  // namespace moekit
