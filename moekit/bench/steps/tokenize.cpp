// Byte-level BPE of English text, one thread, in bytes a second: encoding with words known from
// before, with none known, and back; the words alone, which is what PCRE2 takes of it; learning a
// vocabulary of 1,024. MOEKIT_BENCH_DATA is a folder with gpt2-bpe/ and texts as
// tinyshakespeare/input.txt; without it text is made of invented words, and the vocabulary learned
// from it.

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "moekit/core/files.h"
#include "moekit/text/bpe_trainer.h"
#include "moekit/text/part.h"
#include "moekit/text/pre_tokenizers/byte_level.h"
#include "moekit/text/tokenizer.h"

namespace {
namespace fs = std::filesystem;
namespace text = moekit::text;

fs::path data_folder() {
  const char* folder = std::getenv("MOEKIT_BENCH_DATA");
  return folder == nullptr ? "" : folder;
}

/// Words of 1 to 10 letters, the n-th of them with a probability of 1 / n.
std::string invented_text() {
  constexpr int kWords = 20'000;
  constexpr std::size_t kBytes = 2'000'000;
  std::mt19937 generator(1);
  std::vector<std::string> words;
  for (int i = 0; i < kWords; ++i) {
    std::string word;
    for (auto left = generator() % 10 + 1; left > 0; --left) {
      word += static_cast<char>('a' + generator() % 26);
    }
    words.push_back(word);
  }
  std::string out;
  while (out.size() < kBytes) {
    const double u = static_cast<double>(generator()) / 4294967296.0;
    out += words[static_cast<std::size_t>(std::pow(kWords, u)) - 1];
    out += generator() % 12 == 0 ? ".\n" : " ";
  }
  return out;
}

const std::string& english() {
  static const std::string kText = [] {
    if (data_folder().empty()) return invented_text();
    std::string all;
    for (const char* name : {"tinyshakespeare/input.txt", "wikitext2/test.txt",
                             "wikitext2/valid.txt", "jargon/jargon.txt"}) {
      if (fs::exists(data_folder() / name)) all += moekit::read_file(data_folder() / name);
    }
    return all;
  }();
  return kText;
}

moekit::Json learned(std::int64_t vocabulary_size) {
  text::BpeTrainerOptions options;
  options.vocabulary_size = vocabulary_size;
  text::BpeTrainer trainer(options);
  trainer.add(english());
  return trainer.train();
}

const text::Tokenizer& tokenizer() {
  static const auto kTokenizer = data_folder().empty()
                                     ? text::Tokenizer::parse(learned(8192), "learned")
                                     : text::Tokenizer::load(data_folder() / "gpt2-bpe");
  return kTokenizer;
}

void set_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(english().size()));
}

void tokenize_encode(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer().encode(english()));
  set_bytes(state);
}
BENCHMARK(tokenize_encode)->Unit(benchmark::kMillisecond);

void tokenize_encode_first(benchmark::State& state) {
  for (auto _ : state) {
    state.PauseTiming();
    const auto fresh = text::Tokenizer::parse(tokenizer().document(), "fresh");
    state.ResumeTiming();
    benchmark::DoNotOptimize(fresh.encode(english()));
  }
  set_bytes(state);
}
BENCHMARK(tokenize_encode_first)->Unit(benchmark::kMillisecond);

void tokenize_words(benchmark::State& state) {
  struct Counter : text::PieceSink {
    void take(text::Piece) override { ++words; }
    std::int64_t words = 0;
  };
  text::ByteLevelOptions options;
  options.add_prefix_space = false;
  const auto words = text::make_byte_level(options, {});
  Counter counter;
  for (auto _ : state) words->split({english(), true}, counter);
  benchmark::DoNotOptimize(counter.words);
  set_bytes(state);
}
BENCHMARK(tokenize_words)->Unit(benchmark::kMillisecond);

void tokenize_decode(benchmark::State& state) {
  const auto ids = tokenizer().encode(english());
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer().decode(ids));
  set_bytes(state);
}
BENCHMARK(tokenize_decode)->Unit(benchmark::kMillisecond);

void tokenize_learn(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(learned(1024));
  set_bytes(state);
}
BENCHMARK(tokenize_learn)->Unit(benchmark::kMillisecond);

}  // namespace
