#include "moekit/models/sequence_classifier.h"

#include <gtest/gtest.h>

#include "moekit/core/config.h"
#include "moekit/core/error.h"
#include "moekit/models/model_io.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/generator.h"
#include "moekit/tensor/operation_counter.h"

namespace moekit::models {
namespace {

constexpr InputShape kRows{2, 5, 6, 3};
constexpr int64_t kImages = 7;

KindSection<ModelKinds> sequence_section(const std::string& more = "", int64_t hidden = 8) {
  KindSection<ModelKinds> section;
  bind_config(parse_toml(concat("kind=\"sequence\"\nnum_experts=6\nhidden_size=", hidden,
                                "\nintermediate_size=12\n"
                                "num_heads=2\nrouter={top_k=2}\n",
                                more),
                         "test"),
              section);
  return section;
}

std::shared_ptr<ClassifierImpl> make_sequence(const std::string& more = "") {
  const auto section = sequence_section(more);
  section->check(kRows, "model");
  auto model = section->make(kRows);
  model->reset_parameters(1, 2);
  return model;
}

torch::Tensor row_images() {
  return torch::empty({kImages, 2, 5, 6}).normal_(0, 1, tensor::make_generator(3));
}

TEST(SequenceClassifier, RoutesEveryImageInEveryLayer) {
  auto model = make_sequence("num_blocks=3\n");
  const auto output = model->forward(row_images(), {});
  EXPECT_EQ(output.log_probs.sizes(), torch::IntArrayRef({kImages, 3}));
  EXPECT_TRUE(torch::allclose(output.log_probs.exp().sum(1), torch::ones({kImages})));
  const auto layers = nn::routed_layers(*model);
  ASSERT_EQ(layers.size(), 6U);
  ASSERT_EQ(output.layers.size(), 6U);
  for (size_t l = 0; l < layers.size(); ++l) {
    EXPECT_EQ(output.layers[l].name, layers[l].name);
    EXPECT_EQ(output.layers[l].routing.num_tokens(), kImages);
    EXPECT_EQ(output.layers[l].routing.num_assignments(), 2 * kImages);
  }
}

TEST(SequenceClassifier, IsTheSameFunctionOnBothPaths) {
  const auto images = row_images();
  const auto labels = torch::arange(kImages).remainder(3);
  auto routed = make_sequence("path=\"routed\"\ntoken_reduction=2\n");
  auto merged = make_sequence("path=\"merged\"\ntoken_reduction=2\n");
  const auto a = routed->forward(images, {});
  const auto b = merged->forward(images, {});
  EXPECT_TRUE(torch::allclose(a.log_probs, b.log_probs, 1e-5, 1e-6));
  routed->loss(a, labels).backward();
  merged->loss(b, labels).backward();
  const auto of_routed = routed->named_parameters();
  const auto of_merged = merged->named_parameters();
  for (const auto& item : of_routed) {
    EXPECT_TRUE(torch::allclose(item.value().grad(), of_merged[item.key()].grad(), 1e-4, 1e-6))
        << item.key();
  }
}

TEST(SequenceClassifier, LeavesMaskedImagesOut) {
  auto model = make_sequence();
  nn::RouterContext context;
  context.mask = torch::ones({kImages}, torch::kBool);
  context.mask[2] = false;
  const auto all = model->forward(row_images(), {});
  const auto some = model->forward(row_images(), context);
  EXPECT_EQ(some.log_probs[2].abs().sum().item<double>(), 0);
  EXPECT_TRUE(torch::allclose(some.log_probs[3], all.log_probs[3], 1e-5, 1e-6));
  EXPECT_EQ(some.rows().size(0), kImages - 1);
  EXPECT_TRUE(model->loss(some, torch::zeros({kImages}, torch::kLong)).item<double>() > 0);
}

TEST(SequenceClassifier, ClonesAndKeepsFewerExperts) {
  const auto section = sequence_section("token_reduction=4\n");
  auto model = make_sequence("token_reduction=4\n");
  const auto before = model->forward(row_images(), {}).log_probs;
  const auto copy = std::dynamic_pointer_cast<ClassifierImpl>(model->clone());
  EXPECT_TRUE(torch::equal(copy->forward(row_images(), {}).log_probs, before));
  nn::take_experts(nn::routed_layers(*model)[1], {5, 0, 3});
  const auto again = build_model(describe_model(*model, section.choice, kRows), "test");
  nn::copy_parameters(*model, *again);
  EXPECT_TRUE(torch::equal(again->forward(row_images(), {}).log_probs,
                           model->forward(row_images(), {}).log_probs));
}

TEST(SequenceClassifier, CountsItsOperationsByPart) {
  // B = 7, T = 5, D = 8, F = 12, 2 heads, E = 6, K = 2, one block.
  const double tokens = 7 * 5;
  for (const bool merged : {false, true}) {
    auto model =
        make_sequence(std::string("num_blocks=1\npath=") + (merged ? "\"merged\"" : "\"routed\""));
    const torch::NoGradGuard no_grad;
    const tensor::OperationCounter counter;
    model->forward(row_images(), {});
    std::map<std::string, double> parts(counter.parts().begin(), counter.parts().end());
    EXPECT_EQ(parts.at("embed"), 2 * tokens * 12 * 8);
    // Queries, keys, values and output; scores and sums.
    EXPECT_EQ(parts.at("block0.attention"), 2 * tokens * 8 * 32 + 2 * 2 * 7 * 5 * 5 * 8);
    EXPECT_EQ(parts.at("block0.up.router"), 2 * 7 * 8 * 6);
    EXPECT_EQ(parts.at("block0.down.router"), 2 * 7 * 12 * 6);
    EXPECT_EQ(parts.at("block0.up.experts"), (merged ? 1 : 2) * 2 * tokens * 8 * 12);
    EXPECT_EQ(parts.count("block0.up.merge"), merged ? 1U : 0U);
    EXPECT_EQ(parts.at("head"), 2 * 7 * 8 * 3);
  }
}

std::string sequence_refusal(const std::string& more, int64_t hidden = 8) {
  try {
    sequence_section(more, hidden)->check(kRows, "model");
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "";
}

TEST(SequenceClassifier, RefusesWithTheKey) {
  EXPECT_NE(sequence_refusal("num_blocks=1\n", 9).find("model.num_heads must divide"),
            std::string::npos);
  EXPECT_NE(sequence_refusal("token_reduction=9\n").find("model.token_reduction"),
            std::string::npos);
}

}  // namespace
}  // namespace moekit::models
