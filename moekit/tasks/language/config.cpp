#include "moekit/tasks/language/config.h"

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/data/sequence_tasks.h"
#include "moekit/kernels/ffn/weight_format.h"
#include "moekit/train/optimizers/adam.h"

namespace moekit::language {

TrainSection::TrainSection() {
  loop.epochs = 10;
  loop.batch_size = 16;
  loop.optimizer.select("adamw");
  auto& adamw = loop.optimizer.as<train::AdamWConfig>();
  adamw.weight_decay = 0.1;
  adamw.beta2 = 0.95;
  loop.schedule.select("cosine");
  loop.warmup_steps = 50;
  loop.clip_norm = 1;
}

void validate(const Config& config) {
  check_values(config, "");
  models::check_decoder(config.model, std::max<int64_t>(config.data.vocabulary, 1), "model");
  if (!config.data.tokens.empty()) {
    const DataConfig usual;
    MOEKIT_CHECK(
        config.data.corpus.empty() && config.data.tokenizer == usual.tokenizer &&
            config.data.vocabulary == usual.vocabulary,
        "data.tokens: its folder says corpus, tokenizer and vocabulary; these keys have no "
        "effect beside it");
  }
  const DataConfig plain;
  if (config.data.generated.empty()) {
    MOEKIT_CHECK(config.data.generated_documents == plain.generated_documents,
                 "data.generated_documents has no effect without data.generated; got ",
                 config.data.generated_documents);
    MOEKIT_CHECK(config.data.generated_digits == plain.generated_digits,
                 "data.generated_digits has no effect without data.generated; got ",
                 config.data.generated_digits);
  } else {
    MOEKIT_CHECK(config.data.corpus.empty() && config.data.tokens.empty(),
                 "data.generated: corpus and tokens have no effect beside it");
    about("data.generated", [&] { data::sequence_tasks(config.data.generated, 1, 1, 1); });
    // Texts are held in memory; the numbers of both keys are small enough to be multiplied.
    constexpr double kMostDigits = 1e8;
    const double digits = static_cast<double>(config.data.generated.size()) *
                          static_cast<double>(config.data.generated_documents) *
                          static_cast<double>(config.data.generated_digits);
    MOEKIT_CHECK(digits <= kMostDigits,
                 "data.generated_documents, generated_digits: ", config.data.generated.size(),
                 " x ", config.data.generated_documents, " x ", config.data.generated_digits,
                 " digits are more than 1e8");
  }
  MOEKIT_CHECK(!config.data.answers || config.data.documents,
               "data.answers: an answer is foretold by its own document; wants documents = true");
  MOEKIT_CHECK(
      !config.data.answers || config.train.loop.accumulate == 1,
      "train.accumulate: parts of a batch have other numbers of answers, so that their mean "
      "is not the batch's; with data.answers it must be 1; got ",
      config.train.loop.accumulate);
  if (config.model.adapters.num_experts() > 0) {
    MOEKIT_CHECK(
        config.packed.empty(),
        "packed: feed-forward networks with model.adapters beside their maps do not run on "
        "the inference kernels; got ",
        to_json(config.packed).dump());
    MOEKIT_CHECK(!config.init.dense_from.empty(),
                 "model.adapters: stand beside a model that was trained; wants init.dense_from");
    MOEKIT_CHECK(to_json(config.init.upcycle) == to_json(nn::UpcycleOptions{}),
                 "init: with model.adapters its keys but dense_from have no effect");
  }
  MOEKIT_CHECK(!config.data.tokenizer.empty(), "data.tokenizer: names none");
  MOEKIT_CHECK(config.data.tokenizer == "bpe" || config.data.vocabulary == DataConfig{}.vocabulary,
               "data.vocabulary has no effect with tokenizer = \"", config.data.tokenizer,
               "\"; got ", config.data.vocabulary);
  train::check(config.train.loop, "train");
  for (const auto& name : config.packed) {
    about("packed", [&] { kernels::parse_weight_format(name); });
    MOEKIT_CHECK(std::count(config.packed.begin(), config.packed.end(), name) == 1,
                 "packed: names \"", name, "\" twice");
  }
  if (!config.init.dense_from.empty()) return;
  MOEKIT_CHECK(to_json(config.init) == to_json(InitConfig{}),
               "init: its other keys have no effect without init.dense_from");
}

Config read_config(const std::filesystem::path& run) {
  Config config;
  bind_config(read_toml(run / "config.toml"), config);
  return config;
}

}  // namespace moekit::language
