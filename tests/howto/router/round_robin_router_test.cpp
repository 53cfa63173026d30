// The how-to of docs/adding-a-router.md, followed: a router is a header, a source, a test and a row
// of the table, and recipes can name it.
#include "moekit/nn/routers/round_robin_router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "moekit/core/error.h"
#include "moekit/nn/experts/linear_experts.h"
#include "moekit/nn/moe_layer.h"
#include "moekit/nn/router_kinds.h"

namespace moekit::nn {
namespace {

std::vector<std::string> lines_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

KindSection<RouterKinds> bind(const std::string& toml) {
  KindSection<RouterKinds> router;
  bind_config(parse_toml(toml, "r.toml"), router);
  return router;
}

TEST(HowToAddARouter, TouchesAHeaderASourceATestAndOneRow) {
  std::set<std::string> added;
  for (const auto& entry : std::filesystem::directory_iterator(MOEKIT_HOWTO_FOLDER)) {
    added.insert(entry.path().filename().string());
  }
  EXPECT_EQ(added, (std::set<std::string>{"round_robin_router.h", "round_robin_router.cpp",
                                          "round_robin_router_test.cpp"}));
  // The one file that changes: an include and a row more, everything else as it was.
  const auto before = lines_of(MOEKIT_TABLE_BEFORE);
  auto after = lines_of(MOEKIT_TABLE_AFTER);
  ASSERT_FALSE(before.empty());
  EXPECT_EQ(after.size(), before.size() + 2);
  after.erase(std::remove_if(after.begin(), after.end(),
                             [](const std::string& line) {
                               return line.find("round_robin") != std::string::npos;
                             }),
              after.end());
  EXPECT_EQ(after, before);
}

TEST(HowToAddARouter, RecipesCanNameItWithItsOwnKeys) {
  const auto router = bind("kind = \"round_robin\"\nstride = 2\n");
  const LayerSite site{{4}, 5, 4, 0, 0};
  router->check(site, "model.router");
  MoE layer(router->make(site), std::make_shared<LinearExpertsImpl>(LinearExpertsOptions(4, 4, 5)));
  const auto routing = layer->forward_with_routing(torch::randn({6, 4})).routing;
  EXPECT_TRUE(torch::equal(routing.expert, torch::tensor({0, 2, 4, 1, 3, 0}, torch::kLong)));
  EXPECT_THROW(bind("kind = \"round_robin\"\ntemperature = 2.0\n"), ArgumentError);
  EXPECT_THROW(bind("kind = \"round_robin\"\nstride = 9\n")->check(site, "model.router"),
               ArgumentError);
  const auto keys = config_keys(KindSection<RouterKinds>{}, "model.router");
  EXPECT_TRUE(std::any_of(keys.begin(), keys.end(), [](const ConfigKey& key) {
    return key.path == "model.router.stride" && key.when.at("model.router.kind").size() == 1;
  }));
}

}  // namespace
}  // namespace moekit::nn
