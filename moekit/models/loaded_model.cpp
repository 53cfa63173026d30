#include "moekit/models/loaded_model.h"

#include <utility>

#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/core/memory.h"
#include "moekit/published/families.h"
#include "moekit/published/inventory.h"

namespace moekit::models {
namespace fs = std::filesystem;

bool is_published_model(const fs::path& folder) {
  const auto file = folder / "config.json";
  return fs::exists(file) && published::ConfigFile(file).has("model_type");
}

Transformer load_published(const fs::path& folder) {
  auto architecture = published::read_architecture(folder);
  const auto why = why_not_run(architecture);
  MOEKIT_CHECK(why.empty(), architecture.where, ": ", architecture.family,
               " is not run by moekit: ", why);
  const auto shortage =
      memory_shortage({published::take_inventory(architecture, nullptr).parameters}, 4);
  MOEKIT_CHECK(shortage.empty(), folder.string(), ": its weights in float32: ", shortage);
  const auto tensors = checkpoint::open_tensors(folder);
  Transformer model(std::move(architecture));
  model->load(published::WeightReader(model->architecture(), *tensors));
  return model;
}

text::Tokenizer load_tokenizer(const fs::path& folder,
                               const published::Architecture& architecture) {
  auto tokenizer = text::Tokenizer::load(folder);
  MOEKIT_CHECK_FORMAT(tokenizer.vocabulary_size() <= architecture.vocabulary_size, folder.string(),
                      ": the tokenizer has ", tokenizer.vocabulary_size(),
                      " tokens, more than the model's vocabulary of ",
                      architecture.vocabulary_size);
  return tokenizer;
}

}  // namespace moekit::models
