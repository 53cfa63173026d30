#pragma once

#include <memory>
#include <string>

#include "moekit/core/field_rule.h"
#include "moekit/models/decoder.h"
#include "moekit/nn/loss_kinds.h"
#include "moekit/nn/upcycle.h"
#include "moekit/train/config.h"

namespace moekit::language {

struct DataConfig {
  std::string corpus;
  std::string tokens;
  std::string tokenizer = "bpe";
  int64_t vocabulary = 1024;
  double validation_share = 0.1;
  int64_t validation_windows = 16;
  std::vector<double> weights;
  bool documents = true;
  std::vector<std::string> generated;
  int64_t generated_documents = 4000;
  int64_t generated_digits = 8;
  bool answers = false;

  template <typename Field>
  void visit(Field&& field) {
    field("corpus", corpus,
          "file or folder of texts, each file or folder in it a domain; empty: the Jargon File, "
          "quotes, German quotes and C++ headers of Debian packages");
    field("tokens", tokens, "folder that moekit data tokenize wrote, in place of a corpus");
    field("tokenizer", tokenizer,
          "bytes, characters, bpe (learned from the training texts), or a tokenizer.json or its "
          "folder");
    field("vocabulary", vocabulary, "tokens that tokenizer = \"bpe\" learns", at_least(257));
    field("validation_share", validation_share, "of each domain, its last texts in a drawn order",
          above(0).below(1));
    field("validation_windows", validation_windows, "windows of each domain that are judged",
          at_least(1));
    field("weights", weights, "how often each domain is drawn, by name; empty: by its size",
          at_least(0));
    field("documents", documents, "tokens see those of their own document alone");
    field(
        "generated", generated,
        "small tasks on digits in place of a corpus, a domain each: copy, reverse, sum, majority");
    field("generated_documents", generated_documents, "of each of them", at_least(1));
    field("generated_digits", generated_digits, "of a question", at_least(1));
    field("answers", answers,
          "what stands behind \"=\" in a document's line is its answer: loss is of answers alone, "
          "and their accuracy is told");
  }
};

/// What the callbacks of a language run are made for.
struct CallbackSite : train::CallbackSite {};

/// The table of callbacks; each brings its keys to the section `train`.
struct CallbackKinds {
  using Row = Kind<std::unique_ptr<train::Callback>, CallbackSite>;
  static constexpr const char* kWhat = "callback";
  static const std::vector<Row>& rows();
};

struct TrainSection {
  /// A batch of 16 texts, 10 epochs of 100 steps, AdamW at a thousandth that falls by a cosine.
  TrainSection();

  train::TrainConfig loop;
  int64_t epoch_steps = 100;
  OptionSet<CallbackKinds> callbacks;

  template <typename Field>
  void visit(Field&& field) {
    loop.visit(field);
    field("epoch_steps", epoch_steps, "steps of an epoch, after which the model is judged",
          at_least(1));
    callbacks.visit(field);
  }
};

/// Where first weights come from.
struct InitConfig {
  std::string dense_from;
  nn::UpcycleOptions upcycle;

  template <typename Field>
  void visit(Field&& field) {
    field("dense_from", dense_from,
          "run of a model without mixtures, which this one begins as: experts are its feed-forward "
          "networks");
    upcycle.visit(field);
  }
};

/// A recipe of `task = "language"`.
struct Config {
  std::string task = "language";
  int64_t seed = 1;
  int64_t threads = 2;
  bool events = true;
  DataConfig data;
  models::DecoderConfig model;
  OptionSet<nn::LossKinds> loss;
  TrainSection train;
  InitConfig init;
  std::vector<std::string> packed;
  int64_t expert_time = 0;

  template <typename Field>
  void visit(Field&& field) {
    field("task", task, "what kind of run this is");
    field("seed", seed, "of every random choice", at_least(0, kAnySeed));
    field("threads", threads, "", at_least(1, kMostThreads));
    field("events", events, "also write event files for TensorBoard", changeable());
    field("data", data, "");
    field("model", model, "");
    field("loss", loss, "");
    field("train", train, "");
    field("init", init, "");
    field("packed", packed,
          "formats of weights, as moekit bench lists them, in which the trained feed-forward "
          "networks are judged once more, on the inference kernels");
    field("expert_time", expert_time,
          "how often the trained mixtures run, dropless, to tell how much time experts without "
          "computation save; 0: not at all",
          at_least(0, 1000));
  }
};

/// Refuses impossible values that do not depend on the texts. @throws ArgumentError naming the key.
void validate(const Config& config);

/// The recipe of a run folder, as resolved.
Config read_config(const std::filesystem::path& run);

}  // namespace moekit::language
