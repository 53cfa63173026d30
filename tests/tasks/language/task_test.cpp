#include "moekit/tasks/language/task.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <set>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/models/decoder_io.h"
#include "moekit/run/report.h"
#include "moekit/run/run_folder.h"
#include "moekit/tasks/language/problem.h"
#include "moekit/tasks/language/section.h"
#include "tests/tasks/language/language_fixture.h"

namespace moekit::language {
namespace {
namespace fs = std::filesystem;

TEST_F(LanguageTest, ResumesToTheSameBytes) {
  ASSERT_EQ(task().run(recipe_, {folder_ / "whole", "", false, true}), run::RunStatus::kFinished);
  for (int stop = 0; stop < 4; ++stop) {
    const InterruptGuard guard;
    std::raise(SIGINT);
    ASSERT_EQ(task().run(recipe_, {folder_ / "parts", "", stop > 0, true}),
              run::RunStatus::kInterrupted);
  }
  const InterruptGuard calm;
  task().run(recipe_, {folder_ / "parts", "", true, true});
  for (const char* file :
       {"model/model.safetensors", "metrics.jsonl", "tokenizer.json", "routes.json"}) {
    EXPECT_TRUE(read_file(folder_ / "whole" / file) == read_file(folder_ / "parts" / file)) << file;
  }
}

TEST_F(LanguageTest, TokensInAFolderGiveTheRunOfTheirTexts) {
  const auto recipe = with({});
  const fs::path folder = folder_ / "tokens";
  // Stopped after the first document, then in the middle, then gone on with.
  int calls = 0;
  const Json begun = task().tokenize(recipe, folder, [&](int64_t, int64_t) { return ++calls < 1; });
  EXPECT_FALSE(begun["finished"].get<bool>());
  EXPECT_FALSE(fs::exists(folder / "letters.tokens"));
  const std::vector<std::string> of_folder = {concat("data.tokens=\"", folder.string(), "\""),
                                              "data.corpus=\"\"", "data.tokenizer=\"bpe\"",
                                              "data.vocabulary=1024"};
  EXPECT_NE(refusal(of_folder, true).find("was not finished"), std::string::npos);
  calls = 0;
  task().tokenize(recipe, folder, [&](int64_t, int64_t) { return ++calls <= 40; });
  EXPECT_TRUE(fs::exists(folder / "letters.tokens"));
  const auto before = fs::last_write_time(folder / "letters.tokens");
  int64_t last = 0;
  const Json made = task().tokenize(recipe, folder, [&](int64_t done, int64_t all) {
    EXPECT_GT(done, last);
    EXPECT_LE(done, all);
    last = done;
    return true;
  });
  EXPECT_TRUE(made["finished"].get<bool>());
  EXPECT_EQ(fs::last_write_time(folder / "letters.tokens"), before);
  EXPECT_EQ(made["domains"]["letters"]["documents"].get<int64_t>(), 40);
  EXPECT_EQ(made["domains"]["words"]["documents"].get<int64_t>(), 1);
  trained("texts");
  trained("ids", of_folder);
  for (const char* file : {"model/model.safetensors", "metrics.jsonl", "tokenizer.json"}) {
    EXPECT_TRUE(read_file(folder_ / "texts" / file) == read_file(folder_ / "ids" / file)) << file;
  }
  EXPECT_NE(refusal({of_folder[0]}).find("data.tokens"), std::string::npos);
  auto other_share = of_folder;
  other_share.push_back("data.validation_share=0.2");
  EXPECT_NE(refusal(other_share, true).find("data.validation_share"), std::string::npos);
  // An id beyond the vocabulary is found before the first step.
  const auto sound = read_file(folder / "words.tokens");
  auto damaged = sound;
  damaged[damaged.size() - 1] = damaged[damaged.size() - 2] = '\x7f';
  write_file_atomic(folder / "words.tokens", damaged);
  try {
    task().run(with(of_folder), {folder_ / "damaged", "", false, true});
    ADD_FAILURE() << "taken";
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what()).find("is 32639, beyond the vocabulary"), std::string::npos)
        << error.what();
  }
  EXPECT_FALSE(fs::exists(folder_ / "damaged" / "checkpoints"));
  write_file_atomic(folder / "words.tokens", sound);
  // Killed before the tokenizer was there.
  fs::create_directories(folder_ / "killed");
  fs::copy_file(folder / "tokens.json", folder_ / "killed" / "tokens.json");
  EXPECT_TRUE(
      task()
          .tokenize(recipe, folder_ / "killed", [](int64_t, int64_t) { return true; })["finished"]
          .get<bool>());
  EXPECT_TRUE(read_file(folder / "words.tokens") == read_file(folder_ / "killed" / "words.tokens"));
  const auto refused = [&](const ConfigTree& other, const fs::path& to) -> std::string {
    try {
      task().tokenize(other, to, [](int64_t, int64_t) { return true; });
    } catch (const ArgumentError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refused(with({"data.vocabulary=310"}), folder).find("data.vocabulary"),
            std::string::npos);
  EXPECT_NE(refused(recipe, folder_ / "corpus").find("holds something else"), std::string::npos);
  // A file of another tokenizer.
  task().tokenize(with({"data.vocabulary=310"}), folder_ / "others",
                  [](int64_t, int64_t) { return true; });
  fs::copy_file(folder_ / "others" / "words.tokens", folder / "words.tokens",
                fs::copy_options::overwrite_existing);
  EXPECT_THROW(task().run(with(of_folder), {folder_ / "x", "", false, true}), FormatError);
}

TEST_F(LanguageTest, BeginsAsADenseModelOfTheSameTexts) {
  const std::vector<std::string> dense = {
      "model.routed_every=0", "model.router={ kind = \"linear\", bias = false, top_k = 2 }"};
  const auto of = [&](std::vector<std::string> set) {
    set.insert(set.begin(), dense[1]);
    set.push_back(concat("init.dense_from=\"", (folder_ / "dense").string(), "\""));
    return set;
  };
  const Json trained_dense = trained("dense", dense);
  const double loss = trained_dense["test"]["loss"].get<double>();
  const Json whole = trained("whole", of({"model.expert.intermediate_size=24"}));
  EXPECT_NEAR(whole["first"]["loss"].get<double>(), loss, 1e-5);
  EXPECT_LT(whole["test"]["loss"].get<double>(), loss);
  const Json slices = trained("slices", of({"init.granularity=2"}));
  EXPECT_NEAR(slices["first"]["loss"].get<double>(), loss, 1e-5);
  const auto refused = [&](const std::vector<std::string>& set) { return refusal(of(set), true); };
  EXPECT_NE(refused({}).find("intermediate_size 12"), std::string::npos) << refused({});
  EXPECT_NE(refused({"data.vocabulary=310"}).find("init.dense_from"), std::string::npos);
  EXPECT_NE(refused({"init.granularity=2", "model.num_heads=4"}).find("model.num_heads"),
            std::string::npos);
  EXPECT_NE(refusal({"init.granularity=2"}).find("init"), std::string::npos);
}

TEST_F(LanguageTest, RefusesStepsThatARouterCannotDealOut) {
  const std::string base = "model.router={ kind = \"base\" }";  // 4 texts of 24, 4 experts
  EXPECT_EQ(refusal({base}), "");
  const auto odd = refusal({base, "model.num_experts=5"}, true);
  EXPECT_NE(odd.find("train.batch_size"), std::string::npos) << odd;
  EXPECT_NE(odd.find("96 tokens"), std::string::npos) << odd;
  const auto part = refusal({base, "model.num_experts=32", "train.accumulate=4"}, true);
  EXPECT_NE(part.find("24 tokens"), std::string::npos) << part;
}

TEST_F(LanguageTest, TellsOperationsAndWhetherARouterLooksAhead) {
  const Json plain = trained("plain", {"model.router={ kind = \"linear\", top_k = 2 }"});
  EXPECT_LT(plain["leak"].get<double>(), 1e-5);
  EXPECT_NEAR(plain["test"]["experts_per_token"].get<double>(), 2, 1e-9);
  // Two layers, two experts a token, three matrices of 16 x 12; routers of 4 experts.
  EXPECT_NEAR(plain["operations_per_token"]["experts"].get<double>(), 2 * 2 * 2 * 3 * 16 * 12,
              1e-6);
  EXPECT_NEAR(plain["operations_per_token"]["routers"].get<double>(), 2 * 2 * 16 * 4, 1e-6);
  EXPECT_GT(plain["test"]["activation_share"].get<double>(), 0.2);
  const Json choice = trained("choice", {"model.router={ kind = \"expert_choice\" }"});
  EXPECT_GT(choice["leak"].get<double>(), 1e-4);
  const Json heads =
      trained("heads", {"model.router={ kind = \"linear\", top_k = 2 }", "model.token_heads=2",
                        "model.head_layer=true", "model.merge_layer=true", "model.num_shared=1"});
  EXPECT_NEAR(heads["test"]["experts_per_token"].get<double>(), 4, 1e-9);
  EXPECT_NEAR(heads["operations_per_token"]["experts"].get<double>(),
              2 * (2 * 4 * 3 * 8 * 12 + 2 * 2 * 16 * 16 + 2 * 3 * 16 * 12), 1e-6);
  EXPECT_TRUE(fs::exists(folder_ / "heads" / "texts.json"));
}

TEST_F(LanguageTest, PartsOfABatchGiveTheSameWithAPenaltyOfTheRouter) {
  const std::vector<std::string> relu = {
      "model.router={ kind = \"relu\", first_coefficient = 0.1 }", "train.optimizer=sgd"};
  const Json whole = trained("whole", relu);
  auto set = relu;
  set.push_back("train.accumulate=4");
  const Json parts = trained("parts", set);
  EXPECT_NEAR(whole["test"]["loss"].get<double>(), parts["test"]["loss"].get<double>(), 1e-5);
  const auto aux = [&](const char* run) {
    return run::read_metrics(folder_ / run, Schema::any()).back()["aux_loss"].get<double>();
  };
  EXPECT_GT(aux("whole"), 0.01);
  EXPECT_NEAR(aux("whole"), aux("parts"), 1e-5);
}

TEST_F(LanguageTest, LearnsAndTellsOfEveryDomain) {
  const Json summary = trained("a", {"train.epochs=20", "train.schedule=constant"});
  const auto lines = run::read_metrics(folder_ / "a", Schema::any());
  ASSERT_EQ(lines.size(), 21U);
  const auto& first = lines.front()["test"];
  const auto& last = lines.back()["test"];
  EXPECT_NEAR(first["loss"].get<double>(), std::log(300), 0.2);  // knows nothing
  EXPECT_LT(last["loss"].get<double>(), 0.6 * first["loss"].get<double>());
  for (const char* domain : {"letters", "words"}) {
    const auto& item = last["domains"][domain];
    EXPECT_LT(item["bits_per_byte"].get<double>(),
              first["domains"][domain]["bits_per_byte"].get<double>());
    EXPECT_EQ(item["tokens"].get<int64_t>(), 4 * 24) << domain;
  }
  const auto& layer = summary["test"]["layers"]["layer1"];
  double sum = 0;
  for (const auto& share : layer["usage"]) sum += share.get<double>();
  EXPECT_NEAR(sum, 1, 1e-9);
  EXPECT_EQ(layer["by_domain"].size(), 2U);
  const auto page = run::make_report(
      {{"a", {folder_ / "a"}}}, [](const fs::path&) -> const run::Task& { return task(); }, "");
  ASSERT_EQ(page.models.size(), 1U);
  ASSERT_EQ(page.models[0].overview_maps.size(), 1U);
  const auto& texts = page.models[0].texts;
  EXPECT_EQ(texts.layers, (std::vector<std::string>{"layer0", "layer1"}));
  ASSERT_EQ(texts.texts.size(), 2U);
  EXPECT_EQ(texts.texts[1].title, "words");
  ASSERT_EQ(texts.texts[1].routes[0].size(), 24U);
  for (const auto& token : texts.texts[1].routes[0]) {
    ASSERT_EQ(token.size(), 2U);  // two experts, the heavier first
    EXPECT_GE(token[0].weight, token[1].weight);
    EXPECT_NEAR(token[0].weight + token[1].weight, 1, 1e-6);
  }
  double share = 0;
  for (const auto& card : texts.cards[1]) share += card.share;
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_EQ(page.models[0].overview_maps[0].row_labels,
            (std::vector<std::string>{"letters", "words", "all"}));
}

TEST_F(LanguageTest, BitsPerByteAreTheLossOfBytes) {
  // With a token a byte: nats a token over ln 2, but for the marks between texts, which are none.
  const auto c = config({"data.tokenizer=bytes", "data.vocabulary=1024"});
  LanguageProblem problem(c, load_text_data(c));
  const Json line = problem.evaluate({});
  const auto& words = line["test"]["domains"]["words"];
  EXPECT_NEAR(words["bits_per_byte"].get<double>(), words["loss"].get<double>() / M_LN2, 1e-9);
  EXPECT_EQ(problem.data().vocabulary_size(), 257);
}

TEST_F(LanguageTest, WindowsAreAFunctionOfTheSeedAndStayInTheirPart) {
  const auto data = load_text_data(config());
  ASSERT_EQ(data.domains.size(), 2U);
  const auto a = data.draw(64, 24, 7, true);
  const auto b = data.draw(64, 24, 7, true);
  EXPECT_TRUE(torch::equal(a.ids, b.ids) && torch::equal(a.first, b.first));
  EXPECT_FALSE(torch::equal(a.ids, data.draw(64, 24, 8, true).ids));
  const auto in_part = [&](const torch::Tensor& window, size_t d, int64_t begin, int64_t end) {
    auto all = torch::empty({end - begin}, torch::kLong);
    data.domains[d].tokens->copy(begin,
                                 {all.data_ptr<int64_t>(), static_cast<size_t>(end - begin)});
    return all.unfold(0, 25, 1).eq(window).all(1).any().item<bool>();
  };
  for (int64_t i = 0; i < 64; ++i) {
    const auto d = static_cast<size_t>(a.domain[i].item<int64_t>());
    EXPECT_TRUE(in_part(a.ids[i], d, 0, data.domains[d].train)) << i;
  }
  for (size_t d = 0; d < 2; ++d) {
    const auto judged = data.judged(d, 4, 24, true);
    ASSERT_EQ(judged.ids.size(0), 4);
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_TRUE(in_part(judged.ids[i], d, data.domains[d].train, data.domains[d].tokens->size()));
    }
    EXPECT_FALSE(torch::equal(judged.ids[0], judged.ids[1]));
  }
}

TEST_F(LanguageTest, ATokenSeesItsOwnDocumentAlone) {
  const auto data = load_text_data(config());
  const auto end = data.tokenizer.id_of("<|endoftext|>");
  ASSERT_TRUE(end.has_value());
  int64_t begun = 0;
  const auto windows = data.draw(40, 24, 3, true);
  for (int64_t b = 0; b < 40; ++b) {
    int64_t start = 0;
    for (int64_t t = 0; t < 24; ++t) {
      if (windows.ids[b][t].item<int64_t>() == *end) {
        start = t;
        ++begun;
      }
      EXPECT_EQ(windows.first[b][t].item<int32_t>(), start) << b << " " << t;
    }
  }
  EXPECT_GT(begun, 5);
  EXPECT_FALSE(data.draw(4, 24, 3, false).first.defined());
}

TEST_F(LanguageTest, DomainsAreDrawnByTheirWeights) {
  const auto data = load_text_data(config({"data.weights=[0, 2]"}));
  EXPECT_EQ(data.draw(50, 24, 1, false).domain.sum().item<int64_t>(), 50);
  const auto even = load_text_data(config({"data.weights=[1, 3]"}));
  EXPECT_NEAR(even.draw(4000, 24, 1, false).domain.to(torch::kFloat64).mean().item<double>(), 0.75,
              0.03);
}

TEST_F(LanguageTest, GoesOnWithAText) {
  trained("a");
  const auto made = [&](text::GenerationOptions options) {
    std::string streamed;
    const Json out = task().generate(folder_ / "a", options, "",
                                     [&](std::string_view piece) { streamed += piece; });
    EXPECT_EQ(out["text"].get<std::string>(), streamed);
    return out;
  };
  text::GenerationOptions options;
  options.prompt = "one two";
  options.tokens = 12;
  EXPECT_EQ(made(options)["text"], made(options)["text"]);
  auto other = options;
  other.seed = 2;
  EXPECT_NE(made(options)["text"], made(other)["text"]);
  options.temperature = 0;
  const std::string greedy = made(options)["text"];
  options.stop = {greedy.substr(3, 2)};
  const Json stopped = made(options);
  EXPECT_EQ(stopped["text"].get<std::string>(), greedy.substr(0, greedy.find(options.stop[0])));
  EXPECT_EQ(stopped["ended_by"], "stop");
  options.stop.clear();
  options.tokens = 30;
  EXPECT_THROW(made(options), ArgumentError);  // beyond the context
  options.tokens = 3;
  options.top_k = 2;
  EXPECT_THROW(made(options), ArgumentError);  // no effect with temperature 0
}

TEST_F(LanguageTest, GoesOnWithATextWithoutACapacity) {
  // That of a prompt would drop what token by token it does not.
  trained("full", {"model.capacity_factor=0.5", "data.tokenizer=bytes", "data.vocabulary=1024"});
  const auto greedy = [&](const std::string& prompt, int64_t tokens) {
    text::GenerationOptions options;
    options.prompt = prompt;
    options.tokens = tokens;
    options.temperature = 0;
    return task()
        .generate(folder_ / "full", options, "", [](std::string_view) {})["text"]
        .get<std::string>();
  };
  const std::string prompt = "one two th";
  const std::string whole = greedy(prompt, 10);
  ASSERT_EQ(whole.size(), 10U);
  for (size_t known = 1; known < whole.size(); ++known) {
    EXPECT_EQ(greedy(prompt + whole.substr(0, known), static_cast<int64_t>(10 - known)),
              whole.substr(known));
  }
}

TEST_F(LanguageTest, JudgesTernaryExpertsOnTheirKernels) {
  const auto run = [&](const std::string& name, std::vector<std::string> set) {
    set.emplace_back("packed=[\"ternary\"]");
    task().run(with(set), {folder_ / name, "", false, true});
    return read_json(folder_ / name / "summary.json");
  };
  const Json low = run("low", {"model.expert.weights=ternary", "model.dense.weights=ternary",
                               "model.attention_weights=ternary"});
  const Json& packed = low["packed"]["ternary"];
  const double loss = low["test"]["loss"];
  // Learned with these codes, they lose nothing by them.
  EXPECT_NEAR(packed["loss"].get<double>(), loss, 2e-3 * loss);
  EXPECT_LT(packed["bytes"].get<double>(), 0.5 * packed["float_bytes"].get<double>());
  // Weights that were not lose.
  const Json high = run("high", {});
  EXPECT_GT(std::fabs(high["packed"]["ternary"]["logit_difference"].get<double>()),
            10 * packed["logit_difference"].get<double>());
  // generate packs, too.
  text::GenerationOptions options;
  options.prompt = "one two";
  options.tokens = 5;
  options.temperature = 0;
  const auto nothing = [](std::string_view) {};
  EXPECT_EQ(task().generate(folder_ / "low", options, "ternary", nothing)["text"],
            task().generate(folder_ / "low", options, "", nothing)["text"]);
  EXPECT_THROW(task().generate(folder_ / "low", options, "int8", nothing), ArgumentError);
  EXPECT_NE(refusal({"packed=[\"int3\"]"}).find("int3"), std::string::npos);
  EXPECT_NE(refusal({"packed=[\"int8\", \"int8\"]"}).find("twice"), std::string::npos);
}

TEST_F(LanguageTest, SharedTensorsSitStepsOut) {
  const auto run = [&](const std::string& name, const std::string& mask) {
    task().run(with({"model.expert={ kind = \"matrix_product\", intermediate_size = 12, "
                     "activation = \"swiglu\", bias = false }",
                     "train.shared_mask=" + mask}),
               {folder_ / name, "", false, true});
    return read_json(folder_ / name / "summary.json")["shared_updates"];
  };
  const Json all = run("all", "0");
  const Json half = run("half", "0.5");
  const Json none = run("none", "1");
  EXPECT_EQ(all["masked"], 0.0);
  EXPECT_EQ(none["masked"], 1.0);
  EXPECT_EQ(none["ratio"], 0.0);  // not by a moment, not by weight decay
  const double share = half["masked"];
  EXPECT_GT(share, 0.2);
  EXPECT_LT(share, 0.8);
  const double of_half = half["ratio"].get<double>() / all["ratio"].get<double>();
  EXPECT_NEAR(of_half, 1 - share, 0.25);
  EXPECT_NE(refusal({"train.shared_mask=0.5"}, true).find("train.shared_mask"), std::string::npos);
}

TEST_F(LanguageTest, TellsWhereTokensGoFromMixtureToMixture) {
  trained("a");
  const Json routes = read_json(folder_ / "a" / "routes.json");
  ASSERT_EQ(routes["flow"].size(), 1U);
  EXPECT_EQ(routes["flow"][0]["from"], "layer0");
  EXPECT_EQ(routes["flow"][0]["to"], "layer1");
  // Anew, from the model's own routing of the judged windows.
  const auto data = load_text_data(config());
  auto model = models::load_decoder(folder_ / "a" / "model");
  const torch::NoGradGuard no_grad;
  auto flow = torch::zeros({4, 4}, torch::kFloat64);
  auto both = torch::zeros({4, 4}, torch::kFloat64);
  for (size_t d = 0; d < 2; ++d) {
    const auto windows = data.judged(d, 4, 24, true);
    const auto output =
        model->forward(windows.ids.narrow(1, 0, 24).contiguous(), {}, windows.first);
    const auto& first = output.layers[0].routing;
    const auto from = nn::top1_expert(first);
    const auto to = nn::top1_expert(output.layers[1].routing);
    for (int64_t n = 0; n < from.numel(); ++n) {
      flow[from[n].item<int64_t>()][to[n].item<int64_t>()] += 1;
      for (int64_t i = 0; i < 2; ++i) {
        for (int64_t j = 0; j < 2; ++j) {
          both[first.expert_index[n][i].item<int64_t>()]
              [first.expert_index[n][j].item<int64_t>()] += 1;
        }
      }
    }
  }
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = 0; j < 4; ++j) {
      const auto at = [&](const Json& table) {
        return table[static_cast<size_t>(i)][static_cast<size_t>(j)].get<double>();
      };
      EXPECT_NEAR(at(routes["flow"][0]["shares"]),
                  (flow[i][j] / flow[i].sum().clamp_min(1)).item<double>(), 1e-12);
      EXPECT_NEAR(at(routes["coactivation"][0]["shares"]),
                  (both[i][j] / both[i][i].clamp_min(1)).item<double>(), 1e-12);
    }
  }
  EXPECT_EQ(make_section("a", folder_ / "a").heat_maps.size(), 1U + 1U + 2U);
}

TEST_F(LanguageTest, SaturationIsThatOfCheckpointsThatAreKept) {
  // The one before the newest is there too, as an interruption leaves one: step 14.
  trained("a", {"train.keep_every=1", "train.checkpoint_steps=1"});
  std::vector<int64_t> steps;
  const Json routes = read_json(folder_ / "a" / "routes.json");
  for (const auto& point : routes["saturation"][0]["points"]) {
    steps.push_back(point["step"].get<int64_t>());
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{5, 10, 15}));
}

TEST_F(LanguageTest, TellsSinceWhenAMixtureMakesItsFinalChoices) {
  trained("a", {"train.keep_every=1"});
  const Json saturation = read_json(folder_ / "a" / "routes.json")["saturation"];
  ASSERT_EQ(saturation.size(), 2U);
  const auto data = load_text_data(config());
  const torch::NoGradGuard no_grad;
  // Of the first checkpoint that was kept, with the experts of each token as sets.
  const auto chosen = [&](const fs::path& folder, size_t layer) {
    auto model = models::load_decoder(folder);
    std::vector<std::set<int64_t>> out;
    for (size_t d = 0; d < 2; ++d) {
      const auto windows = data.judged(d, 4, 24, true);
      const auto output =
          model->forward(windows.ids.narrow(1, 0, 24).contiguous(), {}, windows.first);
      const auto& index = output.layers[layer].routing.expert_index;
      for (int64_t n = 0; n < index.size(0); ++n) {
        out.push_back({index[n][0].item<int64_t>(), index[n][1].item<int64_t>()});
      }
    }
    return out;
  };
  const auto checkpoints = run::list_checkpoints(folder_ / "a");
  ASSERT_EQ(checkpoints.size(), 3U);
  for (size_t l = 0; l < 2; ++l) {
    EXPECT_EQ(saturation[l]["layer"], concat("layer", l));
    EXPECT_EQ(saturation[l]["random"], 0.5);  // two of four
    const auto& points = saturation[l]["points"];
    ASSERT_EQ(points.size(), 3U);
    size_t at = 0;
    const auto last = chosen(folder_ / "a" / "model", l);
    for (const auto& [step, folder] : checkpoints) {
      const auto earlier = chosen(folder, l);
      double kept = 0;
      for (size_t n = 0; n < last.size(); ++n) {
        for (const int64_t e : last[n]) kept += earlier[n].count(e) == 1 ? 0.5 : 0;
      }
      EXPECT_EQ(points[at]["step"], step);
      EXPECT_NEAR(points[at++]["value"].get<double>(), kept / static_cast<double>(last.size()),
                  1e-12);
    }
    EXPECT_EQ(points[2]["value"], 1.0);
    EXPECT_LT(points[0]["value"], 1.0);
  }
  const auto section = make_section("a", folder_ / "a");
  const auto chart = std::find_if(section.charts.begin(), section.charts.end(), [](const auto& c) {
    return c.title == "Final choices that were already made";
  });
  ASSERT_NE(chart, section.charts.end());
  EXPECT_EQ(chart->x, (std::vector<double>{5, 10, 15}));
  EXPECT_EQ(chart->series.size(), 2U);
  // Without kept checkpoints there is nothing to compare with.
  trained("b");
  EXPECT_FALSE(read_json(folder_ / "b" / "routes.json").contains("saturation"));
}

TEST_F(LanguageTest, RefusesToPackWhatCannotBeBeforeTraining) {
  const auto says = [&](std::vector<std::string> set, const char* wanted) {
    const auto message = refusal(set, true);
    EXPECT_EQ(message.rfind("packed = ", 0), 0U) << message;
    EXPECT_NE(message.find(wanted), std::string::npos) << message;
  };
  says({"model.expert.activation=tanh", "packed=[\"int8\"]"}, "int8");
  says({"model.expert={ kind = \"linear\" }", "packed=[\"f32\"]"}, "no feed-forward networks");
  says({"model.expert.weights=ternary", "packed=[\"ternary\", \"int8\"]"}, "\"int8\"");
}

TEST_F(LanguageTest, RefusesImpossibleValues) {
  EXPECT_NE(refusal({"model.num_heads=3"}).find("model.num_heads"), std::string::npos);
  EXPECT_NE(refusal({"data.tokenizer=bytes"}).find("data.vocabulary"), std::string::npos);
  EXPECT_NE(refusal({"data.validation_share=1"}).find("validation_share"), std::string::npos);
  EXPECT_NE(refusal({"model.router.kind=oracle"}).find("router"), std::string::npos);
  EXPECT_NE(refusal({"model.context=4000"}, true).find("data.corpus"), std::string::npos);
  EXPECT_NE(refusal({"data.weights=[1]"}, true).find("data.weights"), std::string::npos);
  EXPECT_NE(refusal({"data.weights=[0, 0]"}, true).find("data.weights"), std::string::npos);
  EXPECT_THROW(task().run(with({"data.corpus=/no/such/place"}), {folder_ / "x", "", false, true}),
               IoError);
}

}  // namespace
}  // namespace moekit::language
