#include "moekit/core/kinds.h"

#include <gtest/gtest.h>

namespace moekit {
namespace {

/// Shapes have an area; they are made for a unit of length.
struct Square {
  double side = 2;
  template <typename Field>
  void visit(Field&& field) {
    field("side", side, "length of a side");
  }
};
struct Box {
  double side = 2;
  double height = 3;
  template <typename Field>
  void visit(Field&& field) {
    field("side", side, "length of a side");
    field("height", height, "of the box");
  }
};

double make_square(const Square& s, const double& unit) { return s.side * s.side * unit * unit; }
double make_box(const Box& b, const double& unit) { return b.side * b.height * unit * unit; }
double make_point(const NoOptions&, const double&) { return 0; }
void check_box(const Box& b, const double& unit, const std::string& where) {
  MOEKIT_CHECK(b.height * unit <= 10, where, ".height must be at most 10 in all; got ", b.height);
}

using Rows = std::vector<Kind<double, double>>;
const Rows& shape_rows() {
  static const Rows kRows = {kind<&make_square>("square", "equal sides"),
                             kind<&make_box, &check_box>("box", "two lengths"),
                             kind<&make_point>("point", "no size")};
  return kRows;
}
struct Shapes {
  using Row = Kind<double, double>;
  static constexpr const char* kDefault = "square";
  static constexpr const char* kWhat = "shape";
  static constexpr const char* kDoc = "kind of shape";
  static constexpr const char* kOptionsKey = "";
  static const Rows& rows() { return shape_rows(); }
};
struct NamedShapes : Shapes {
  static constexpr const char* kOptionsKey = "options";
};

struct Recipe {
  KindSection<Shapes> shape;
  Choice<NamedShapes> named;
  template <typename Field>
  void visit(Field&& field) {
    field("shape", shape, "");
    field("named", named, "a shape by name");
  }
};

Recipe read(const std::string& toml) {
  Recipe recipe;
  bind_config(parse_toml(toml, "r.toml"), recipe);
  return recipe;
}

std::string refusal(const std::string& toml) {
  try {
    read(toml);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Kinds, MakesWhatASectionNamesFromItsOwnOptions) {
  EXPECT_EQ(read("").shape->make(1.0), 4);
  EXPECT_EQ(read("[shape]\nside = 3\n").shape->make(2.0), 36);
  const auto box = read("[shape]\nkind = \"box\"\nheight = 5\n");
  EXPECT_EQ(box.shape->name(), "box");
  EXPECT_EQ(box.shape->make(1.0), 10);
  EXPECT_EQ(box.shape->as<Box>().height, 5);
  EXPECT_EQ(box.shape->get_if<Square>(), nullptr);
}

TEST(Kinds, RefusesAKeyOfAnotherKindByNameAndListsItsOwn) {
  EXPECT_EQ(refusal("[shape]\nheight = 5\n"),
            "r.toml:2: unknown key shape.height; kind = \"square\" has kind side");
  EXPECT_EQ(refusal("[shape]\nkind = \"box\"\nheigt = 5\n"),
            "r.toml:3: unknown key shape.heigt; did you mean height?; kind = \"box\" has kind side "
            "height");
  EXPECT_EQ(refusal("[shape]\nkind = \"disc\"\n"),
            "r.toml:2: shape.kind: unknown shape \"disc\"; known: square, box or point");
  EXPECT_EQ(refusal("[shape]\nkind = 3\n"),
            "r.toml:2: shape.kind: unknown shape 3; known: square, box or point");
}

TEST(Kinds, OptionsMayStandInATableOfTheirOwn) {
  const auto recipe = read("named = \"box\"\noptions = { side = 4 }\n");
  EXPECT_EQ(recipe.named.make(1.0), 12);
  EXPECT_EQ(refusal("named = \"point\"\noptions = { side = 4 }\n"),
            "r.toml:2: unknown key options.side; named = \"point\" has none");
  EXPECT_EQ(refusal("named = \"disc\"\n"),
            "r.toml:1: named: unknown shape \"disc\"; known: square, box or point");
}

TEST(Kinds, ChecksNameTheSection) {
  const auto recipe = read("[shape]\nkind = \"box\"\nheight = 5\n");
  recipe.shape->check(2.0, "shape");
  try {
    recipe.shape->check(3.0, "shape");
    FAIL();
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "shape.height must be at most 10 in all; got 5");
  }
}

TEST(Kinds, WritesWhatItReads) {
  const auto recipe = read("named = \"box\"\n[shape]\nkind = \"box\"\nheight = 5\n");
  const Json written = to_json(recipe);
  EXPECT_EQ(written.dump(), R"({"shape":{"kind":"box","side":2.0,"height":5.0},"named":"box",)"
                            R"("options":{"side":2.0,"height":3.0}})");
  EXPECT_EQ(to_json(read(to_toml(written))), written);
}

TEST(Kinds, ListsEveryKeyOnceWithTheKindsThatHaveIt) {
  std::vector<std::string> lines;
  for (const auto& key : config_keys(Recipe{})) {
    std::string line = key.path + " " + key.default_value;
    for (const auto& [path, names] : key.when) {
      line += " " + path;
      for (const auto& name : names) line += " " + name;
    }
    lines.push_back(line);
  }
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "shape.kind \"square\"", "shape.side 2.0 shape.kind square box",
                       "shape.height 3.0 shape.kind box", "named \"square\"",
                       "options.side 2.0 named square box", "options.height 3.0 named box"}));
}

TEST(Kinds, ListsTheKeysOfOneKindAlone) {
  const auto keys =
      option_keys(*find_kind(shape_rows(), "box", "shape").options(), "named.options");
  ASSERT_EQ(keys.size(), 2U);
  EXPECT_EQ(keys[1].path, "named.options.height");
  EXPECT_EQ(keys[1].default_value, "3.0");
  EXPECT_TRUE(keys[1].when.empty());
}

TEST(Kinds, ACopyHasOptionsOfItsOwn) {
  Recipe a;
  Recipe b = a;
  b.shape->as<Square>().side = 7;
  EXPECT_EQ(a.shape->as<Square>().side, 2);
  a = b;
  EXPECT_EQ(a.shape->as<Square>().side, 7);
}

struct Section {
  OptionSet<Shapes> all;
  template <typename Field>
  void visit(Field&& field) {
    field("all", all, "");
  }
};

TEST(OptionSet, BindsTheOptionsOfEveryRow) {
  Section section;
  bind_config(parse_toml("[all]\nheight = 9\n", "r.toml"), section);
  EXPECT_EQ(section.all.get<Box>().height, 9);
  EXPECT_EQ(section.all.make(1.0), (std::vector<double>{4, 18, 0}));
  EXPECT_THROW(bind_config(parse_toml("[all]\ndepth = 9\n", "r.toml"), section), ArgumentError);
}

}  // namespace
}  // namespace moekit
