#include "moekit/metrics/alignment.h"

#include <gtest/gtest.h>

#include "moekit/core/error.h"
#include "moekit/metrics/specialization.h"

namespace moekit::metrics {
namespace {

TEST(Alignment, IsSignedForRoutersAndTheLargestFilterForExperts) {
  const auto directions = torch::eye(3).slice(0, 0, 2);
  const auto router = torch::tensor({{1.0F, -2.0F, 5.0F}, {0.0F, 3.0F, 0.0F}});
  EXPECT_TRUE(torch::equal(alignment(router, directions),
                           torch::tensor({{1.0, -2.0}, {0.0, 3.0}}, torch::kFloat64)));
  const auto filters = torch::stack({router, -2 * router}).transpose(0, 1);  // [2, 2, 3]
  EXPECT_TRUE(torch::equal(alignment(filters, directions),
                           torch::tensor({{2.0, 4.0}, {0.0, 6.0}}, torch::kFloat64)));
  EXPECT_THROW(alignment(torch::zeros({2, 4}), directions), ArgumentError);
}

TEST(Alignment, RatioAndCoverLookAtExpertsInUseAlone) {
  const auto centre = torch::tensor({{4.0, 0.0}, {0.0, 9.0}, {0.0, 100.0}});
  const auto label = torch::tensor({{1.0, 0.0}, {0.0, -1.0}, {1.0, 0.0}});
  const auto used = torch::tensor({true, true, false});
  EXPECT_EQ(alignment_ratio(centre, label, used), 4);  // lower median of 4 and 9
  EXPECT_EQ(directions_covered(centre, used), 2);
  const auto none = torch::tensor({false, false, false});
  EXPECT_EQ(alignment_ratio(centre, label, none), 0);
  EXPECT_EQ(directions_covered(centre, none), 0);
}

TEST(DispatchEntropy, IsZeroForOneClusterAnExpertAndLnKForACollapsedRouter) {
  const auto entropy = [](const torch::Tensor& expert) {
    const auto layer =
        make_layer_trace("moe", expert.unsqueeze(1), torch::one_hot(expert, 4).to(torch::kFloat32));
    RoutingTrace trace;
    trace.labels["cluster"] = torch::arange(4, torch::kLong).repeat({10});
    trace.labels["label"] = torch::zeros({40}, torch::kLong);
    trace.layers = {layer};
    return specialization_summary(layer, trace, 1, true)["cluster"]["dispatch_entropy"]
        .get<double>();
  };
  EXPECT_NEAR(entropy(torch::arange(4, torch::kLong).repeat({10})), 0, 1e-12);
  EXPECT_NEAR(entropy(torch::full({40}, 2, torch::kLong)), std::log(4), 1e-12);
  // Clusters 0 and 1 share an expert: half the samples at ln 2.
  EXPECT_NEAR(entropy(torch::tensor({0, 0, 2, 3}).repeat({10})), 0.5 * std::log(2), 1e-12);
}

}  // namespace
}  // namespace moekit::metrics
