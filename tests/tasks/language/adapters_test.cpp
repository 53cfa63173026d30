#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <csignal>

#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/interrupt.h"
#include "moekit/models/decoder_io.h"
#include "moekit/run/report.h"
#include "moekit/tasks/language/section.h"
#include "moekit/tasks/language/task.h"
#include "moekit/tasks/language/text_data.h"
#include "tests/tasks/language/language_fixture.h"

namespace moekit::language {
namespace {
namespace fs = std::filesystem;

class AdapterTest : public LanguageTest {
 protected:
  std::vector<std::string> tasks(const std::string& names, std::vector<std::string> more = {}) {
    std::vector<std::string> set = {
        "data.corpus=\"\"",        "data.generated=" + names, "data.generated_documents=300",
        "data.generated_digits=4", "data.tokenizer=bytes",    "data.vocabulary=1024",
        "data.answers=true",       "model.routed_every=0",    "model.num_experts=8"};
    set.insert(set.end(), more.begin(), more.end());
    recipe_ = parse_toml(R"(
task = "language"
threads = 1
[data]
validation_windows = 4
[model]
hidden_size = 16
num_layers = 2
num_heads = 2
context = 24
dense = { intermediate_size = 24 }
[train]
epochs = 2
epoch_steps = 5
batch_size = 4
lr = 1e-2
)",
                         "test");
    return set;
  }
  std::string from_base() {
    return concat("init.dense_from=\"", (folder_ / "base").string(), "\"");
  }
};

TEST_F(AdapterTest, LearnBesideAFrozenModel) {
  trained("base", tasks(R"(["copy"])"));
  const auto set = tasks(R"(["copy", "sum"])",
                         {from_base(), "model.adapters={ num_experts = 2, orthogonal = true }"});
  const Json summary = trained("adapted", set);
  // Seven maps of each block: routers [2, in], experts 2 r (in + out).
  const int64_t d = 16, f = 24, r = 4;
  const int64_t block =
      4 * (2 * d + 2 * r * 2 * d) + 2 * (2 * d + 2 * r * (d + f)) + (2 * f + 2 * r * (d + f));
  EXPECT_EQ(summary["trained_parameters"].get<int64_t>(), 2 * block);
  EXPECT_GT(summary["expert_cosine"]["before"].get<double>(), 0.01);
  EXPECT_LT(summary["expert_cosine"]["after"].get<double>(), 1e-4);
  const double accuracy = summary["test"]["accuracy"];
  EXPECT_NEAR(accuracy,
              (summary["test"]["domains"]["copy"]["accuracy"].get<double>() +
               summary["test"]["domains"]["sum"]["accuracy"].get<double>()) /
                  2,
              1e-12);
  const auto section = make_section("a", folder_ / "adapted");
  EXPECT_TRUE(section.heat_maps.empty() && section.overview_maps.empty());
  EXPECT_EQ(section.overview_charts.size(), 1U);
  EXPECT_FALSE(fs::exists(folder_ / "adapted" / "texts.json"));
  // The base's weights are as they were, and the run goes on to the same bytes.
  auto base = models::load_decoder(folder_ / "base" / "model");
  auto adapted = models::load_decoder(folder_ / "adapted" / "model");
  for (const auto& item : base->named_parameters()) {
    EXPECT_TRUE(adapted->named_parameters()[item.key()].equal(item.value())) << item.key();
  }
  for (int stop = 0; stop < 2; ++stop) {
    const InterruptGuard guard;
    std::raise(SIGINT);
    ASSERT_EQ(task().run(with(set), {folder_ / "parts", "", stop > 0, true}),
              run::RunStatus::kInterrupted);
  }
  const InterruptGuard calm;
  task().run(with(set), {folder_ / "parts", "", true, true});
  for (const char* file : {"model/model.safetensors", "metrics.jsonl"}) {
    EXPECT_TRUE(read_file(folder_ / "adapted" / file) == read_file(folder_ / "parts" / file))
        << file;
  }
}

TEST_F(AdapterTest, RefuseAModelThatIsAnotherOrHasAdaptersItself) {
  trained("base", tasks(R"(["copy"])"));
  const std::string two = "model.adapters={ num_experts = 2 }";
  trained("adapted", tasks(R"(["copy"])", {from_base(), two}));
  const auto says = [&](std::vector<std::string> more, const char* wanted) {
    const auto message = refusal(tasks(R"(["copy"])", std::move(more)), true);
    EXPECT_NE(message.find(wanted), std::string::npos) << message;
  };
  says({two, from_base(), "model.dense={ intermediate_size = 24, activation = \"geglu\" }"},
       "model.dense.activation");
  says({two, from_base(), "model.dense={ intermediate_size = 24, bias = true }"},
       "model.dense.bias");
  says({two, concat("init.dense_from=\"", (folder_ / "adapted").string(), "\"")}, "adapters");
  // As of the blocks that stay dense beside mixtures.
  says({from_base(), "model.routed_every=2", "model.expert.intermediate_size=24",
        "model.dense={ intermediate_size = 24, weights = \"binary\" }"},
       "model.dense.weights");
}

TEST_F(AdapterTest, CountTheirOperationsAndWholeTextsTokens) {
  trained("base", tasks(R"(["copy"])"));
  const Json plain = run::read_summary(folder_ / "base", Schema::any());
  const Json summary =
      trained("with", tasks(R"(["copy"])", {from_base(), "model.adapters={ num_experts = 3 }"}));
  const double d = 16, f = 24, n = 3, r = 4;
  const double routers = 2 * 2 * n * (6 * d + f);  // two blocks, two operations a multiply-add
  const double experts = 2 * 2 * n * r * (4 * 2 * d + 2 * (d + f) + (d + f));
  EXPECT_DOUBLE_EQ(summary["operations_per_token"]["routers"].get<double>(), routers);
  EXPECT_DOUBLE_EQ(summary["operations_per_token"]["experts"].get<double>(), experts);
  EXPECT_DOUBLE_EQ(summary["operations_per_token"]["all"].get<double>(),
                   plain["operations_per_token"]["all"].get<double>() + routers + experts);
  EXPECT_EQ(summary["test"]["experts_per_token"], 3.0);
}

TEST_F(AdapterTest, BeginAsTheModelTheyStandBeside) {
  const double base = trained("base", tasks(R"(["copy"])"))["test"]["loss"];
  int number = 0;
  for (const char* adapters :
       {"model.adapters={ num_experts = 1 }", "model.adapters={ num_experts = 3, top_k = 2 }",
        "model.adapters={ num_experts = 2, orthogonal = true, orthogonal_size = \"unit\" }"}) {
    const auto set = tasks(R"(["copy"])", {from_base(), adapters, "train.epochs=1"});
    EXPECT_NEAR(trained(concat("with", ++number), set)["first"]["loss"].get<double>(), base, 1e-5)
        << adapters;
  }
}

TEST_F(AdapterTest, AnswersAreWhatStandsBehindTheEqualsSignOfAWholeQuestion) {
  const auto set = tasks(R"(["sum"])");
  const auto data = load_text_data(config(set));
  ASSERT_TRUE(data.answers.has_value());
  const auto windows = data.draw(40, 24, 3, true);
  int64_t answers = 0;
  for (int64_t b = 0; b < 40; ++b) {
    bool whole = false;
    bool inside = false;
    for (int64_t t = 0; t < 24; ++t) {
      const auto text = [&](int64_t at) {
        const auto id = static_cast<int32_t>(windows.ids[b][at].item<int64_t>());
        return data.tokenizer.is_special(id) ? std::string("|")
                                             : data.tokenizer.decode_bytes(std::span(&id, 1));
      };
      if (text(t) == "|") whole = true;
      if (text(t) == "=") inside = whole;
      if (text(t) == "\n") inside = false;
      const bool want = inside && text(t + 1) != "\n";
      EXPECT_EQ(windows.answer[b][t].item<bool>(), want) << b << " " << t;
      answers += want ? 1 : 0;
    }
  }
  EXPECT_GT(answers, 100);
}

TEST_F(AdapterTest, RefuseWhatDoesNotFit) {
  const auto says = [&](std::vector<std::string> more, const char* wanted) {
    const auto message = refusal(tasks(R"(["copy"])", std::move(more)));
    EXPECT_NE(message.find(wanted), std::string::npos) << message;
  };
  says({"data.generated=[\"sort\"]"}, "data.generated: there is no task \"sort\"");
  says({"data.corpus=/tmp"}, "data.generated");
  says({"data.generated=[]"}, "data.generated_documents");
  says({"data.documents=false"}, "data.answers");
  says({"train.accumulate=2"}, "train.accumulate");
  says({"data.generated_documents=1000000000"}, "data.generated_documents");
  says({"data.generated_digits=100000000"}, "data.generated_documents");
  EXPECT_NE(refusal(tasks(R"(["copy"])", {"data.generated_documents=2"}), true)
                .find("data.generated_documents"),
            std::string::npos);
  const std::string two = "model.adapters={ num_experts = 2 }";
  for (const char* dense : {"weights = \"ternary\"", "compute = \"bf16\"",
                            "keep_activations = false", "init = \"zero_output\""}) {
    says({two, from_base(), concat("model.dense={ intermediate_size = 24, ", dense, " }")},
         "model");
  }
  says({"model.adapters={ num_experts = 20, orthogonal = true }", from_base()},
       "model.adapters.num_experts");
  says({two, from_base(), "packed=[\"int8\"]"}, "packed");
  // A window that no question fits in.
  EXPECT_NE(refusal(tasks(R"(["copy"])", {"model.context=8", "data.generated_digits=12"}), true)
                .find("data.answers"),
            std::string::npos);
  says({"model.adapters={ num_experts = 2 }"}, "init.dense_from");
  says({"model.adapters={ num_experts = 2, top_k = 1 }"}, "model.adapters.top_k");
  says({"model.adapters={ rank = 2 }"}, "model.adapters");
  says({"model.adapters={ num_experts = 2 }", "model.routed_every=1"}, "routed_every");
  says({"model.adapters={ num_experts = 2 }", "init.dense_from=/x", "init.granularity=2"}, "init");
  EXPECT_THROW(task().run(with(tasks(R"(["copy"])", {"model.adapters={ num_experts = 2 }",
                                                     "init.dense_from=/no/run"})),
                          {folder_ / "x", "", false, true}),
               Error);
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

}  // namespace
}  // namespace moekit::language
