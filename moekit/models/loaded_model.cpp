#include "moekit/models/loaded_model.h"

#include <cmath>
#include <optional>
#include <utility>

#include "moekit/checkpoint/sharded.h"
#include "moekit/core/error.h"
#include "moekit/core/memory.h"
#include "moekit/core/numbers.h"
#include "moekit/published/families.h"
#include "moekit/published/inventory.h"

namespace moekit::models {
namespace fs = std::filesystem;

bool is_published_model(const fs::path& folder) {
  const auto file = folder / "config.json";
  return fs::exists(file) && published::ConfigFile(file).has("model_type");
}

Transformer load_published(const fs::path& folder, const std::string& format) {
  auto architecture = published::read_architecture(folder);
  const auto why = why_not_run(architecture);
  MOEKIT_CHECK(why.empty(), architecture.where, ": ", architecture.family,
               " is not run by moekit: ", why);
  std::optional<kernels::WeightFormat> packed;
  if (!format.empty()) packed = kernels::parse_weight_format(format);
  // Before memory is taken: the files' headers have what the config asks for.
  const auto tensors = checkpoint::open_tensors(folder);
  const auto inventory = published::check_inventory(architecture, *tensors);
  // Dense and shared networks are packed, too, but small beside these.
  const double bits = packed ? kernels::format_info(*packed).bits_per_weight : 32;
  const double bytes =
      static_cast<double>(inventory.routed_parameters) * bits / 8 +
      4.0 * static_cast<double>(inventory.parameters - inventory.routed_parameters);
  const auto shortage = memory_shortage({to_integer(std::ceil(bytes), "bytes")}, 1);
  MOEKIT_CHECK(shortage.empty(), folder.string(), ": experts in ", packed ? format : "float32",
               ", all else in float32: ", shortage);
  Transformer model(std::move(architecture), packed);
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
