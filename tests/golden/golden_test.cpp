// Short runs of every kind of recipe against metrics and weights written down before: a change that
// is meant to change no number changes none. With MOEKIT_WRITE_GOLDEN=1 the files are written anew.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "moekit/core/checksum.h"
#include "moekit/core/config.h"
#include "moekit/core/files.h"

namespace moekit {
namespace {
namespace fs = std::filesystem;

struct Case {
  std::string name;
  std::string recipe;            ///< below recipes/
  std::vector<std::string> set;  ///< @RUNS@ stands for the folder of all runs
};

const std::vector<std::string> kImages = {"data.name=synthetic-clusters",
                                          "data.options={num_train=600, num_test=200}",
                                          "train.epochs=2", "train.batch_size=100"};
const std::vector<std::string> kPatches = {"data.options.num_train=600",
                                           "data.options.num_test=200", "train.batch_size=600",
                                           "train.epochs=6", "train.evaluate_every=3"};

const std::vector<std::string> kStream = {
    "stream.tasks=[\"fashion-mnist/invert\", \"fashion-mnist/flip\", \"fashion-mnist\"]",
    "stream.train_limit=400",
    "stream.test_limit=200",
    "model.base.net={hidden=[24]}",
    "model.base.epochs=2",
    "train.steps=12",
    "train.batch_size=32"};

std::vector<std::string> with(std::vector<std::string> base, std::vector<std::string> more) {
  base.insert(base.end(), more.begin(), more.end());
  return base;
}

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {"single", "attentive-gate/mnist/single.toml", kImages},
      {"original", "attentive-gate/mnist/original.toml",
       with(kImages, {"loss.importance=0.1", "data.validation=100", "train.patience=5"})},
      {"attentive", "attentive-gate/mnist/attentive.toml",
       with(kImages, {"loss.similarity_same=1e-3", "loss.similarity_different=1e-3",
                      "loss.similarity_relative=true", "data.holdout=100"})},
      {"distilled", "attentive-gate/mnist/distilled.toml",
       with(kImages, {"init.experts_from=@RUNS@/attentive", "init.trunk_from=@RUNS@/attentive"})},
      {"oracle", "attentive-gate/mnist/original.toml",
       with(kImages, {"model.num_experts=2", "model.router={kind=\"oracle\", groups=[[0], [1]]}"})},
      {"stochastic", "attentive-gate/mnist/original.toml",
       with(kImages, {"model.form=stochastic"})},
      {"pre-softmax", "attentive-gate/mnist/original.toml",
       with(kImages, {"model.form=pre_softmax", "model.router.temperature=2.0"})},
      {"top-k", "attentive-gate/mnist/attentive.toml",
       with(kImages, {"model.form=top_k", "model.router.top_k=2", "data.augment=true"})},
      {"sparse", "attentive-gate/mnist/original.toml",
       with(kImages,
            {"model={kind=\"sparse\", num_experts=6, hidden_size=32, num_shared_experts=1, "
             "capacity_factor=1.25, expert={kind=\"mlp\", intermediate_size=24, "
             "activation=\"swiglu\"}, router={kind=\"linear\", top_k=2, noise=\"gaussian\"}}",
             "loss={load=0.01, balance=0.01, router_z=1e-3, entropy=1e-3}", "train.optimizer=adamw",
             "train.weight_decay=0.01", "train.schedule=cosine", "train.warmup_steps=3",
             "train.clip_norm=1.0"})},
      {"sparse-attentive", "attentive-gate/mnist/original.toml",
       with(kImages,
            {"model={kind=\"sparse\", num_experts=4, hidden_size=32, expert={kind=\"mlp\", "
             "intermediate_size=32, activation=\"tanh\"}, router={kind=\"attentive\", top_k=1, "
             "combine_weights=\"probs\"}}",
             "train.schedule=linear"})},
      {"clusters", "cluster-structure/moe.toml", kPatches},
      {"clusters-single", "cluster-structure/single.toml", kPatches},
      {"rotate", "cluster-structure/rotate-moe.toml",
       with(kImages, {"data.train_limit=400", "data.test_limit=100"})},
      {"rotate-single", "cluster-structure/rotate-single.toml",
       with(kImages, {"data.train_limit=400", "data.test_limit=100"})},
      {"sequence", "meo/rows.toml",
       with(kImages, {"data.train_limit=400", "data.test_limit=200", "model.hidden_size=16",
                      "model.intermediate_size=24", "model.num_blocks=1", "model.num_heads=2",
                      "model.token_reduction=4"})},
      {"continual-adapters", "merging-experts/adapters.toml",
       with(kStream, {"model.num_experts=5", "model.freeze_used=1", "model.grow=1",
                      "model.expert.activation=identity", "train.merge=merge",
                      "train.merge_period=4", "train.merge_products=true", "protect.replay=10"})},
      {"continual-whole", "merging-experts/whole.toml",
       with(kStream, {"protect.lwf=1", "protect.ewc=10", "protect.ewc_samples=5",
                      "stream.validation=100", "train.best_every=4"})},
      {"federated",
       "federated-moe/non-iid.toml",
       {"data={name=\"synthetic-clusters\", options={num_train=600, num_test=200}}", "users=10",
        "per_round=5", "rounds=3", "lr=0.1", "hidden_size=8",
        "attack={kind=\"random\", attackers=4, pure=false}"}},
      {"soft-pair",
       "soft-routed-theory/pair.toml",
       {"time=3", "batch_size=256", "test_samples=2000"}},
      {"soft-mixture",
       "soft-routed-theory/mixture.toml",
       {"time=4.02", "batch_size=256", "test_samples=2000", "fine_tune_steps=25"}},
  };
  return kCases;
}

std::string first_line_with(const fs::path& file, const std::string& start) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(start, 0) == 0) return line;
  }
  return "";
}

/// Where bits are the same: the processor and the release of libtorch.
std::string machine_of(const fs::path& run) {
  const Json info = Json::parse(read_file(run / "run.json"));
  return concat("libtorch ", info["libtorch"].get<std::string>(), ", ",
                first_line_with("/proc/cpuinfo", "cpu family"), ", ",
                first_line_with("/proc/cpuinfo", "model\t"));
}

void run_case(const Case& one, const fs::path& runs) {
  // One set of instructions for all machines, so that most give the same bits.
  std::string command =
      "MOEKIT_ISA=avx2 ATEN_CPU_CAPABILITY=avx2 OPENBLAS_CORETYPE=Haswell DNNL_MAX_CPU_ISA=AVX2 ";
  command += concat(MOEKIT_PROGRAM, " train ", MOEKIT_RECIPES_FOLDER, "/", one.recipe,
                    " --quiet --out ", (runs / one.name).string());
  for (std::string set : one.set) {
    if (const auto at = set.find("@RUNS@"); at != std::string::npos) {
      set.replace(at, 6, runs.string());
    }
    command += " --set '" + set + "'";
  }
  command += " > " + (runs / (one.name + ".log")).string() + " 2>&1";
  ASSERT_EQ(std::system(command.c_str()), 0) << command << "\n"
                                             << read_file(runs / (one.name + ".log"));
}

/// Numbers equal to a relative 1e-3, everything else the same.
void expect_close(const Json& a, const Json& b, const std::string& where) {
  if (a.is_number() && b.is_number()) {
    const double x = a.get<double>();
    const double y = b.get<double>();
    EXPECT_NEAR(x, y, 1e-3 * std::max(1.0, std::abs(x))) << where;
    return;
  }
  ASSERT_EQ(a.type(), b.type()) << where;
  if (!a.is_structured()) {
    EXPECT_EQ(a, b) << where;
    return;
  }
  ASSERT_EQ(a.size(), b.size()) << where;
  for (const auto& [key, value] : a.items()) {
    expect_close(value, a.is_object() ? b.at(key) : b.at(std::stoul(key)), where + "/" + key);
  }
}

class Golden : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    runs() = fs::temp_directory_path() / concat("moekit-golden-", ::getpid());
    fs::remove_all(runs());
    create_folders(runs());
  }
  static void TearDownTestSuite() { fs::remove_all(runs()); }
  static fs::path& runs() {
    static fs::path folder;
    return folder;
  }
  static fs::path golden() { return fs::path(MOEKIT_GOLDEN_FOLDER); }
};

TEST_P(Golden, GivesTheMetricsAndWeightsWrittenDownBefore) {
  const Case& one = GetParam();
  run_case(one, runs());
  if (HasFatalFailure()) return;
  const fs::path run = runs() / one.name;
  const std::string metrics = read_file(run / "metrics.jsonl");
  // Sorted: the order in which parts of a run add their figures is no number.
  auto summary = nlohmann::json::parse(read_file(run / "summary.json"));
  summary.erase("seconds");
  const std::string weights = sha256(read_file(run / "model" / "model.safetensors"));
  const std::string machine = machine_of(run);
  const fs::path file = golden() / (one.name + ".jsonl");
  const std::string now = metrics + nlohmann::json{{"summary", summary}}.dump() + "\n" +
                          Json{{"machine", machine}, {"weights", weights}}.dump() + "\n";
  if (std::getenv("MOEKIT_WRITE_GOLDEN") != nullptr) write_file_atomic(file, now);
  std::istringstream wanted(read_file(file));
  std::istringstream got(now);
  std::vector<Json> wanted_lines;
  std::vector<Json> got_lines;
  for (std::string line; std::getline(wanted, line);) wanted_lines.push_back(Json::parse(line));
  for (std::string line; std::getline(got, line);) got_lines.push_back(Json::parse(line));
  ASSERT_EQ(got_lines.size(), wanted_lines.size());
  if (wanted_lines.back()["machine"] == machine) {
    EXPECT_EQ(now, read_file(file));
    return;
  }
  for (size_t i = 0; i + 1 < got_lines.size(); ++i) {
    expect_close(got_lines[i], wanted_lines[i], concat("line ", i + 1));
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, Golden, testing::ValuesIn(cases()), [](const auto& test) {
  std::string name = test.param.name;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

}  // namespace
}  // namespace moekit
