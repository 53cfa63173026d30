#include "moekit/core/config.h"

#include <gtest/gtest.h>

#include "tests/support/growth.h"

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

std::string repeated(const std::string& text, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += text;
  return out;
}

TEST(Config, RefusesDeepNestingAndStaysUpright) {
  const std::string deep = "r.toml:2: nested deeper than 64";
  EXPECT_EQ(error_of("\n" + repeated("a.", 100'000) + "a = 1"), deep);
  EXPECT_EQ(error_of("\n[" + repeated("a.", 100'000) + "a]"), deep);
  EXPECT_EQ(error_of("\na = " + repeated("[", 100'000)), deep);
  EXPECT_EQ(error_of("\na = " + repeated("{ a.b.c = ", 30) + "1" + repeated("}", 30)), deep);
  EXPECT_EQ(error_of("", {repeated("a.", 100'000) + "a=1"}).substr(0, 14), "--set a.a.a.a.");
  // Dots of strings, comments and lists are no depth.
  const std::string dots = repeated(".", 100);
  EXPECT_EQ(error_of("name = \"" + dots + "\\\"" + dots + "\" # " + dots + "\n"), "no error");
  EXPECT_EQ(error_of("name = \"\"\"" + dots + "\n\"" + dots + "\"\"\"\"\n"), "no error");
  EXPECT_EQ(error_of("name = '" + dots + "'\n"), "no error");
  EXPECT_EQ(error_of("[inner]\nsizes = [" + repeated("1, ", 1000) + "]\n"), "no error");
}

TEST(Config, PutsThePlaceInFrontOfAMessageThatBeginsWithAKey) {
  ConfigTree tree = parse_toml("seed = 1\n[train]\nlr = 1\nlist = [\n1,\n2]\n", "train.toml");
  apply_override(tree, "data.options.x=1");
  EXPECT_EQ(located(tree, "train.lr must be 2"), "train.toml:3: train.lr must be 2");
  EXPECT_EQ(located(tree, "seed: bad"), "train.toml:1: seed: bad");
  EXPECT_EQ(located(tree, "train.list[1] = 2, but"), "train.toml:6: train.list[1] = 2, but");
  EXPECT_EQ(located(tree, "train.rate must be 2"), "train.toml:2: train.rate must be 2");
  EXPECT_EQ(located(tree, "data.options.x must be 2"),
            "--set data.options.x: data.options.x must be 2");
  // Of several keys one that was overridden, also where only its last word stands there.
  apply_override(tree, "train.epochs=3");
  EXPECT_EQ(located(tree, "train.lr = 1 does not go with epochs = 3"),
            "--set train.epochs: train.lr = 1 does not go with epochs = 3");
  EXPECT_EQ(located(tree, "seed = 1, but data.options.x=1"),
            "--set data.options.x: seed = 1, but data.options.x=1");
  EXPECT_EQ(located(tree, "seed does not go with epochs"),
            "train.toml:1: seed does not go with epochs");
  // A table that only the flag asks for is the flag's, not the file's.
  EXPECT_EQ(origin_of(tree, "data"), "--set data.options.x");
  EXPECT_EQ(located(tree, "runs/x holds a run"), "runs/x holds a run");
  EXPECT_EQ(located(tree, "model: bad", "train.toml"), "train.toml: model: bad");
  const std::string once = "train.toml:3: unknown key train.x";
  EXPECT_EQ(located(tree, once, "train.toml"), once);
  const std::string flag = "--set data.options.x: no";
  EXPECT_EQ(located(tree, flag, "train.toml"), flag);
  EXPECT_EQ(origin_of(tree, ""), "train.toml");
  try {
    locate_errors(tree, [] { throw ArgumentError("seed: bad"); });
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "train.toml:1: seed: bad");
  }
  EXPECT_EQ(locate_errors(tree, [] { return 7; }), 7);
}

TEST(Config, AnUnknownKeyBelowAnOverriddenTableNamesTheFlag) {
  EXPECT_EQ(error_of("", {"inner={rat=1}"}),
            "--set inner: unknown key inner.rat; did you mean rate?");
}

TEST(Config, CostsAsMuchAsTheRecipeIsLong) {
  const auto parse = [](const std::string& text) { parse_toml(text, "r.toml"); };
  const auto keys = [](int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += concat("key", i, " = ", i, "\n");
    return text;
  };
  EXPECT_LT(growth(1500, keys, parse), kLinearGrowth);
  const auto rows = [](int n) {
    std::string text;
    for (int i = 0; i < n; ++i) text += concat("[[row]]\nname = \"r", i, "\"\nset = [1, 2]\n");
    return text;
  };
  EXPECT_LT(growth(500, rows, parse), kLinearGrowth);
}

TEST(Config, RefusesAFileWithoutAKey) {
  for (const char* file : {"/dev/null", "/proc/self/cmdline"}) {
    EXPECT_THROW(read_toml(file, FileKind::kAny), ArgumentError) << file;
  }
  EXPECT_THROW(read_toml("/dev/zero", FileKind::kAny), FormatError);
  EXPECT_THROW(read_toml("/dev/null"), IoError);
}

TEST(Config, ReadsAllOfAnOverrideOrRefusesIt) {
  EXPECT_EQ(error_of("", {"count=1\non=true"}),
            "--set count: more than a value: a second key follows it");
  EXPECT_EQ(error_of("", {"name=one\ntwo"}), "--set name: a value over several lines must be TOML");
  EXPECT_EQ(error_of("", {"inner.sizes=[1,\n2]"}), "no error");
  EXPECT_EQ(error_of("", {"inner.=3"}), "--set inner.: an empty key");
  EXPECT_EQ(error_of("", {".count=3"}), "--set .count: an empty key");
  EXPECT_EQ(error_of("", {"inner..rate=3"}), "--set inner..rate: an empty key");
  EXPECT_EQ(error_of("", {"name=\xff"}), "--set \"name=\uFFFD\": key or value is not UTF-8");
}

TEST(Config, RefusesAMissingFileByName) {
  EXPECT_THROW(read_toml("/nonexistent/recipe.toml"), IoError);
}

struct Ruled {
  double rate = 0.5;
  double beta = 0.9;
  std::vector<int64_t> sizes = {1};
  int64_t rounds = 3;
  uint16_t small = 0;
  template <typename Field>
  void visit(Field&& field) {
    field("rate", rate, "a rate", above(0));
    field("beta", beta, "", at_least(0).below(1));
    field("sizes", sizes, "", at_least(1));
    field("rounds", rounds, "", at_least(0).changeable());
    field("small", small, "");
  }
};

TEST(FieldRule, IsHeldAgainstWhatIsReadAndAgainstWhatWasFilledInCode) {
  const auto read = [](const std::string& toml) -> std::string {
    try {
      Ruled ruled;
      bind_config(parse_toml(toml, "r.toml"), ruled);
      check_values(ruled, "there");
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "fine";
  };
  EXPECT_EQ(read("rate = 1e-9\nbeta = 0\nrounds = 1000000000\n"), "fine");
  EXPECT_EQ(read("\nrate = 0\n"), "r.toml:2: rate must be positive; got 0");
  EXPECT_EQ(read("rate = 1e308\n"), "r.toml:1: rate must be at most 1e+09; got 1e+308");
  EXPECT_EQ(read("rate = nan\n"), "r.toml:1: rate must be a finite number; got nan");
  EXPECT_EQ(read("rate = -inf\n"), "r.toml:1: rate must be a finite number; got -inf");
  EXPECT_EQ(read("beta = 1.0\n"), "r.toml:1: beta must be below 1; got 1.0");
  EXPECT_EQ(read("sizes = [4, 0]\n"), "r.toml:1: sizes[1] must be at least 1; got 0");
  EXPECT_EQ(read("rounds = 9223372036854775807\n"),
            "r.toml:1: rounds must be at most 1e+09; got 9223372036854775807");
  EXPECT_EQ(read("small = 65536\n"), "r.toml:1: small must be from 0 to 65535; got 65536");
  EXPECT_EQ(read("small = -1\n"), "r.toml:1: small must be from 0 to 65535; got -1");
  Ruled ruled;
  ruled.sizes = {2, -3};
  try {
    check_values(ruled, "there");
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "there.sizes[1] must be at least 1; got -3");
  }
}

TEST(FieldRule, StandsInTheListOfKeys) {
  const auto keys = config_keys(Ruled{});
  ASSERT_EQ(keys.size(), 5U);
  EXPECT_EQ(keys[0].rule.text(), "> 0, <= 1e+09");
  EXPECT_EQ(keys[1].rule.text(), ">= 0, < 1");
  EXPECT_FALSE(keys[1].rule.on_resume);
  EXPECT_TRUE(keys[3].rule.on_resume);
  EXPECT_EQ(keys[4].rule.text(), "");
}

TEST(ChangesRefused, NameKeysThatMustStayWithBothValues) {
  const auto keys = config_keys(Ruled{});
  const Json before = to_json(Ruled{});
  Json now = before;
  now["rounds"] = 9;
  EXPECT_EQ(changes_refused(before, now, keys), "");
  EXPECT_EQ(changes_refused(before, now, {}), "rounds was 3, now 9");
  now["sizes"] = {1, 2};
  now.erase("beta");
  EXPECT_EQ(changes_refused(before, now, keys),
            "beta was 0.9, now not there\nsizes was [1], now [1,2]");
  EXPECT_EQ(changes_refused({{"rounds", 3}}, {{"rounds", 3.0}}, {}), "");
}

}  // namespace
}  // namespace moekit
