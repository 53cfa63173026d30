#include <gtest/gtest.h>
#include <torch/optim/sgd.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "moekit/checkpoint/module_io.h"
#include "moekit/checkpoint/safetensors.h"
#include "moekit/core/config.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/models/classifier.h"
#include "moekit/models/model_io.h"
#include "moekit/nn/surgery.h"
#include "moekit/tensor/generator.h"

namespace moekit::models {
namespace {

namespace fs = std::filesystem;

constexpr InputShape kInput{1, 6, 8, 3};
constexpr int64_t kSamples = 10;

/// One network of a recipe's section, and what is to be seen of it.
struct ModelCase {
  std::string toml;
  int64_t experts;         ///< E of its one layer
  std::string layer;       ///< its name in the model
  std::string of_router;   ///< prefix of the router's parameters; empty: none
  std::string of_experts;  ///< prefix of the experts'
  int64_t chosen;          ///< experts a sample is sent to; 0: there is no routing
  bool expert_outputs;     ///< whether expert_log_probs is there in training
  bool hard;
};

const std::vector<ModelCase>& cases() {
  const std::string mlp = "expert={kind=\"mlp\", intermediate_size=5, activation=\"tanh\"}\n";
  static const std::vector<ModelCase> kCases{
      {"kind=\"single\"\n" + mlp, 1, "", "", "experts.", 0, true, false},
      {"kind=\"mixture\"\nnum_experts=4\n" + mlp, 4, "mixture", "mixture.router.",
       "mixture.experts.", 4, true, false},
      {"kind=\"mixture\"\nnum_experts=3\nform=\"stochastic\"\n" + mlp, 3, "mixture",
       "mixture.router.", "mixture.experts.", 3, true, true},
      {"kind=\"mixture\"\nnum_experts=4\nform=\"pre_softmax\"\n" + mlp, 4, "mixture",
       "mixture.router.", "mixture.experts.", 4, true, false},
      {"kind=\"mixture\"\nnum_experts=4\nform=\"top_k\"\nrouter={top_k=2}\n" + mlp, 4, "mixture",
       "mixture.router.", "mixture.experts.", 2, true, false},
      {"kind=\"mixture\"\nnum_experts=3\nexpert={kind=\"conv\", net={conv=[{channels=2}], "
       "hidden=[5]}}\nrouter={kind=\"attentive\", trunk={conv=[{channels=2}], hidden=[5]}}\n",
       3, "mixture", "mixture.router.", "mixture.experts.", 3, true, false},
      {"kind=\"sparse\"\nnum_experts=4\nhidden_size=7\nrouter={top_k=2}\n"
       "expert={kind=\"mlp\", intermediate_size=5, activation=\"swiglu\"}\n",
       4, "moe", "moe.router.", "moe.experts.", 2, false, false},
      {"kind=\"sparse\"\nnum_experts=4\nhidden_size=7\nnum_shared_experts=2\n"
       "router={top_k=1, combine_weights=\"probs\"}\n"
       "expert={kind=\"mlp\", intermediate_size=5, activation=\"gelu\"}\n",
       4, "moe", "moe.router.", "moe.experts.", 1, false, true},
      {"kind=\"sparse_mixture\"\nnum_experts=4\nrouter={top_k=1, combine_weights=\"probs\"}\n" +
           mlp,
       4, "moe", "moe.router.", "moe.experts.", 1, false, true},
      {"kind=\"sparse_mixture\"\nnum_experts=4\noutput_loss=\"double_softmax\"\n"
       "router={top_k=2, noise=\"gaussian\"}\nexpert={kind=\"patch\", num_filters=2, "
       "activation=\"cubic\"}\n",
       4, "moe", "moe.router.", "moe.experts.", 2, false, false},
  };
  return kCases;
}

KindSection<ModelKinds> section_of(const std::string& toml) {
  KindSection<ModelKinds> section;
  bind_config(parse_toml(toml, "test"), section);
  return section;
}

std::shared_ptr<ClassifierImpl> make_model(const ModelCase& of, uint64_t seed = 1) {
  const auto section = section_of(of.toml);
  section->check(kInput, "model");
  auto model = section->make(kInput);
  model->reset_parameters(seed, seed + 1);
  return model;
}

torch::Tensor images(uint64_t seed = 5) {
  return torch::empty({kSamples, kInput.channels, kInput.height, kInput.width})
      .normal_(0, 1, tensor::make_generator(seed));
}
torch::Tensor labels() { return torch::arange(kSamples).remainder(kInput.num_classes); }

nn::RouterContext context() {
  nn::RouterContext out;
  out.generator = tensor::make_generator(9);
  return out;
}

std::map<std::string, torch::Tensor> copy_of(const torch::nn::Module& model) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& item : model.named_parameters()) out[item.key()] = item.value().detach().clone();
  return out;
}

bool starts_with(const std::string& text, const std::string& start) {
  return !start.empty() && text.compare(0, start.size(), start) == 0;
}

/// One step of plain gradient descent; what the model said in it.
ClassifierOutput take_step(ClassifierImpl& model, double lr) {
  std::vector<torch::Tensor> learning;
  for (const auto& p : model.parameters()) {
    if (p.requires_grad()) learning.push_back(p);
  }
  torch::optim::SGD sgd(learning, torch::optim::SGDOptions(lr));
  sgd.zero_grad();
  auto output = model.forward(images(), context());
  model.loss(output, labels()).backward();
  sgd.step();
  return output;
}

double loss_of(ClassifierImpl& model) {
  const torch::NoGradGuard no_grad;
  return model.loss(model.forward(images(), context()), labels()).item<double>();
}

TEST(Models, CasesCoverEveryKindOfTheTable) {
  std::set<std::string> known;
  std::set<std::string> seen;
  for (const auto& row : ModelKinds::rows()) known.insert(std::string(row.name));
  for (const auto& of : cases()) seen.insert(std::string(section_of(of.toml)->name()));
  seen.insert("sequence");  // has several layers, and a test of its own
  EXPECT_EQ(seen, known);
}

TEST(Models, GiveADistributionAndTheRoutingOfTheirLayer) {
  for (const auto& of : cases()) {
    SCOPED_TRACE(of.toml);
    const auto model = make_model(of);
    const auto output = model->forward(images(), context());
    EXPECT_EQ(output.log_probs.sizes(), (std::vector<int64_t>{kSamples, kInput.num_classes}));
    EXPECT_TRUE(
        torch::allclose(output.log_probs.exp().sum(1), torch::ones({kSamples}), 1e-4, 1e-5));
    EXPECT_EQ(output.expert_log_probs.defined(), of.expert_outputs);
    if (of.expert_outputs) {
      EXPECT_EQ(output.expert_log_probs.sizes(),
                (std::vector<int64_t>{of.experts, kSamples, kInput.num_classes}));
    }
    EXPECT_EQ(model->is_hard(), of.hard);
    const auto layers = nn::routed_layers(*model);
    ASSERT_EQ(layers.size(), 1U);
    EXPECT_EQ(layers[0].name, of.layer);
    EXPECT_EQ(layers[0].experts->num_experts(), of.experts);
    EXPECT_EQ(layers[0].router == nullptr, of.chosen == 0);
    ASSERT_EQ(output.layers.size(), of.chosen == 0 ? 0U : 1U);
    if (of.chosen == 0) continue;
    const auto& layer = output.layers[0];
    EXPECT_EQ(layer.name, of.layer);
    EXPECT_EQ(layer.routing.num_assignments(), kSamples * of.chosen);
    EXPECT_EQ(layer.routing.logits.sizes(), (std::vector<int64_t>{kSamples, of.experts}));
    EXPECT_EQ(layer.samples.size(0), kSamples);
    EXPECT_EQ(layer.dropped, 0);
  }
}

TEST(Models, ADoubleSoftmaxCanNeverBeSure) {
  const std::string toml =
      "kind=\"sparse_mixture\"\nnum_experts=4\nrouter={top_k=2}\n"
      "expert={kind=\"mlp\", intermediate_size=5, activation=\"tanh\"}\n";
  const auto probs = [&](const std::string& loss) {
    const auto section = section_of(toml + loss);
    auto model = section->make(kInput);
    model->reset_parameters(1, 2);
    const torch::NoGradGuard no_grad;
    model->eval();
    return model->forward(1000 * images(), context()).log_probs.exp();
  };
  const auto once = probs("");
  const auto twice = probs("output_loss=\"double_softmax\"\n");
  EXPECT_TRUE(torch::allclose(twice, torch::softmax(once, 1), 1e-5, 1e-6));
  // e / (e + C - 1) at most.
  EXPECT_LE(twice.max().item<double>(), std::exp(1.0) / (std::exp(1.0) + 2) + 1e-6);
  EXPECT_GT(once.max().item<double>(), 0.6);
}

TEST(Models, DrawRouterAndTheRestFromSeedsOfTheirOwn) {
  for (const auto& of : cases()) {
    SCOPED_TRACE(of.toml);
    const auto model = make_model(of);
    const auto start = copy_of(*model);
    for (const bool router : {true, false}) {
      model->reset_parameters(router ? 7 : 1, router ? 2 : 8);
      bool changed = false;
      for (const auto& [name, value] : copy_of(*model)) {
        const bool same = torch::equal(value, start.at(name));
        const bool of_router = starts_with(name, of.of_router);
        if (of_router != router) {
          EXPECT_TRUE(same) << name;
        }
        changed = changed || !same;
      }
      EXPECT_EQ(changed, !router || of.chosen > 0);
    }
    model->reset_parameters(1, 2);
    for (const auto& [name, value] : copy_of(*model)) {
      EXPECT_TRUE(torch::equal(value, start.at(name))) << name;
    }
  }
}

TEST(Models, AStepMovesWhatLearnsAndNothingElse) {
  for (const auto& of : cases()) {
    SCOPED_TRACE(of.toml);
    const auto model = make_model(of);
    model->train();
    const auto before = copy_of(*model);
    const auto output = take_step(*model, 0.1);
    // Experts with samples. A classical mixture in the top-k form runs all of them in training, and
    // learns through the chosen ones.
    std::set<int64_t> used;
    for (int64_t e = 0; e < of.experts; ++e) {
      if (of.chosen == 0 || output.layers[0].routing.expert.eq(e).any().item<bool>()) {
        used.insert(e);
      }
    }
    for (const auto& item : model->named_parameters()) {
      const auto& name = item.key();
      const auto change = (item.value().detach() - before.at(name)).abs();
      if (!starts_with(name, of.of_experts)) {
        EXPECT_GT(change.sum().item<double>(), 0) << name;
        continue;
      }
      for (int64_t e = 0; e < of.experts; ++e) {  // stacked: the first dimension
        EXPECT_EQ(change[e].sum().item<double>() > 0, used.count(e) == 1) << name << " " << e;
      }
    }
  }
}

TEST(Models, AnExpertWithoutSamplesStaysAndOneWithThemMoves) {
  // All samples to expert 2 of the sparse kinds, by the router's bias.
  for (const auto& of : cases()) {
    if (of.chosen != 1) continue;
    SCOPED_TRACE(of.toml);
    const auto model = make_model(of);
    {
      const torch::NoGradGuard no_grad;
      model->named_parameters()[of.of_router + "bias"].copy_(torch::tensor({0.0, 0.0, 50.0, 0.0}));
    }
    const auto before = copy_of(*model);
    take_step(*model, 0.1);
    for (const auto& item : model->named_parameters()) {
      if (!starts_with(item.key(), of.of_experts)) continue;
      for (int64_t e = 0; e < 4; ++e) {
        EXPECT_EQ(torch::equal(item.value()[e], before.at(item.key())[e]), e != 2)
            << item.key() << " " << e;
      }
    }
  }
}

TEST(Models, AStepLeavesFrozenPartsAsTheyAre) {
  for (const auto& of : cases()) {
    SCOPED_TRACE(of.toml);
    for (const auto* frozen : {&of.of_router, &of.of_experts}) {
      if (frozen->empty()) continue;
      const auto model = make_model(of);
      const auto layer = nn::routed_layers(*model).front();
      nn::freeze(frozen == &of.of_router ? static_cast<torch::nn::Module&>(*layer.router)
                                         : static_cast<torch::nn::Module&>(*layer.experts));
      if (of.chosen == 0) continue;  // nothing would be left to learn
      const auto before = copy_of(*model);
      take_step(*model, 0.1);
      bool moved = false;
      for (const auto& item : model->named_parameters()) {
        const bool same = torch::equal(item.value(), before.at(item.key()));
        if (starts_with(item.key(), *frozen)) {
          EXPECT_TRUE(same) << item.key();
        }
        moved = moved || !same;
      }
      EXPECT_TRUE(moved) << *frozen;
    }
  }
}

TEST(Models, StepsGoDownhill) {
  for (const auto& of : cases()) {
    SCOPED_TRACE(of.toml);
    const auto model = make_model(of);
    model->train();
    const double before = loss_of(*model);
    for (int step = 0; step < 20; ++step) take_step(*model, 0.05);
    EXPECT_LT(loss_of(*model), before);
  }
}

TEST(Models, ACloneIsACopyOfItsOwn) {
  for (const auto& of : cases()) {
    SCOPED_TRACE(of.toml);
    const auto model = make_model(of);
    const auto clone = std::dynamic_pointer_cast<ClassifierImpl>(model->clone());
    ASSERT_NE(clone, nullptr);
    model->eval();
    clone->eval();
    const auto want = model->forward(images(), context()).log_probs;
    EXPECT_TRUE(torch::equal(clone->forward(images(), context()).log_probs, want));
    take_step(*clone, 0.5);
    EXPECT_TRUE(torch::equal(model->forward(images(), context()).log_probs, want));
    EXPECT_FALSE(torch::equal(clone->forward(images(), context()).log_probs, want));
  }
}

TEST(Models, TakeWeightsOfOtherTypesThanTheImages) {
  for (const auto& of : cases()) {
    for (const auto type : {torch::kBFloat16, torch::kFloat64}) {
      SCOPED_TRACE(of.toml);
      const auto model = make_model(of);
      model->eval();
      const auto want = model->forward(images(), context()).log_probs.detach();
      nn::routed_layers(*model).front().experts->to(type);
      auto got = model->forward(images(), context()).log_probs;
      EXPECT_TRUE(torch::allclose(got.to(torch::kFloat32), want, 5e-2, 5e-2));
      model->to(type);
      got = model->forward(images(), context()).log_probs;
      EXPECT_TRUE(got.isfinite().all().item<bool>());
      const auto output = model->forward(images(), context());
      model->loss(output, labels()).backward();
      for (const auto& p : model->parameters()) {
        if (p.grad().defined()) {
          EXPECT_EQ(p.grad().scalar_type(), type);
        }
      }
    }
  }
}

class ModelFiles : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() /
              concat("moekit-models-", ::getpid(), "-",
                     testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  void save(ClassifierImpl& model, const ModelCase& of) const {
    write_file_atomic(folder_ / "config.json",
                      describe_model(model, section_of(of.toml).choice, kInput).dump());
    checkpoint::write_safetensors(folder_ / "model.safetensors", checkpoint::module_tensors(model));
  }
  /// The message of what loading throws.
  std::string refusal() const {
    try {
      load_model(folder_);
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing was refused";
  }
  fs::path folder_;
};

TEST_F(ModelFiles, NanAndInfinityAreRefusedByName) {
  const ModelCase& of = cases()[1];
  for (const float value : {std::nanf(""), INFINITY}) {
    const auto model = make_model(of);
    const auto last = model->named_parameters().pairs().back();
    {
      const torch::NoGradGuard no_grad;
      last.second.view(-1)[0] = value;
    }
    save(*model, of);
    EXPECT_EQ(refusal(), concat((folder_ / "model.safetensors").string(), ": ", last.first,
                                " holds NaN or infinity"));
  }
}

TEST_F(ModelFiles, ASavedModelComesBackToTheSameNumbers) {
  for (const auto& of : cases()) {
    for (const bool fewer : {false, true}) {
      SCOPED_TRACE(of.toml);
      const auto model = make_model(of);
      take_step(*model, 0.1);
      if (fewer && of.chosen > 0) nn::take_experts(nn::routed_layers(*model).front(), {2, 0});
      save(*model, of);
      const auto loaded = load_model(folder_);
      EXPECT_FALSE(loaded->is_training());
      model->eval();
      EXPECT_TRUE(torch::equal(loaded->forward(images(), context()).log_probs,
                               model->forward(images(), context()).log_probs));
      const auto layer = nn::routed_layers(*loaded).front();
      if (fewer && of.chosen > 0) {
        EXPECT_EQ(layer.module->kept_experts(), (std::vector<int64_t>{2, 0}));
      }
    }
  }
}

TEST_F(ModelFiles, ADescriptionOrWeightsThatDoNotFitAreRefusedWithTheFile) {
  const auto& of = cases()[1];
  const auto model = make_model(of);
  save(*model, of);
  const Json good = Json::parse(read_file(folder_ / "config.json", 1 << 20));
  const auto with = [&](const auto& change) {
    Json bad = good;
    change(bad);
    write_file_atomic(folder_ / "config.json", bad.dump());
    return refusal();
  };
  const auto expect = [&](const std::string& message, std::initializer_list<const char*> parts) {
    for (const char* part : parts) EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect(with([](Json& j) { j.erase("input"); }), {"config.json", "lacks model or input"});
  expect(with([](Json& j) { j["model"]["kind"] = "best"; }), {"config.json", "best"});
  expect(with([](Json& j) { j["model"]["num_experts"] = 0; }), {"num_experts", "got 0"});
  expect(with([](Json& j) { j["layers"][0]["kept"] = {0, 9}; }), {"config.json", "kept", "9"});
  expect(with([](Json& j) { j["layers"][0]["name"] = "moe"; }), {"config.json", "\"mixture\""});
  expect(with([](Json& j) { j["model"]["expert"]["intermediate_size"] = 6; }),
         {"model.safetensors", "mixture.experts"});
  EXPECT_EQ(with([](Json&) {}), "nothing was refused");
  fs::remove(folder_ / "model.safetensors");
  expect(refusal(), {"model.safetensors"});
}

TEST(Models, RefuseWrongOptionsByKeyWantedAndGot) {
  const std::pair<const char*, const char*> wrong[]{
      {"kind=\"mixture\"\nnum_experts=0", "num_experts must be at least 1; got 0"},
      {"kind=\"mixture\"\nform=\"top_k\"\nexpert={kind=\"linear\"}",
       "wants model.router.top_k in 1..4; got 0"},
      {"kind=\"mixture\"\nrouter={top_k=2}\nexpert={kind=\"linear\"}",
       "model.router.top_k = 2 wants model.form"},
      {"kind=\"mixture\"\nrouter={top_k=9}\nexpert={kind=\"linear\"}",
       "model.router.top_k must be 0 (all) or 1..5"},
      {"kind=\"mixture\"\nrouter={kind=\"attentive\"}\nexpert={kind=\"linear\"}",
       "no hidden vector"},
      {"kind=\"sparse\"\nhidden_size=0", "hidden_size must be at least 1; got 0"},
      {"kind=\"sparse\"\nnum_shared_experts=-1", "num_shared_experts must be at least 0; got -1"},
      {"kind=\"sparse\"\ncapacity_factor=-0.5", "capacity_factor must be at least 0; got -0.5"},
      {"kind=\"sparse\"\nnum_experts=-3", "num_experts must be at least 1; got -3"},
      {"kind=\"sparse\"\nexpert={kind=\"conv\"}", "takes images"},
      {"kind=\"sparse\"\nexpert={kind=\"mlp\", intermediate_size=0}",
       "expert.intermediate_size must be at least 1; got 0"},
      {"kind=\"sparse_mixture\"\nexpert={kind=\"linear\"}",
       "model.router.top_k: a sparse mixture wants 1..5; got 0"},
      {"kind=\"single\"\nexpert={kind=\"patch\", activation=\"geglu\"}", "geglu"},
      {"kind=\"single\"\nrouter={top_k=1}", "unknown key router"},
      {"kind=\"mixture\"\ncapacity_factor=1.0", "unknown key capacity_factor"},
      {"kind=\"forest\"", "forest"},
  };
  for (const auto& [toml, want] : wrong) {
    std::string message = "nothing was refused";
    try {
      section_of(toml)->check(kInput, "model");
    } catch (const Error& error) {
      message = error.what();
    }
    EXPECT_NE(message.find(want), std::string::npos) << toml << "\n" << message;
  }
}

}  // namespace
}  // namespace moekit::models
