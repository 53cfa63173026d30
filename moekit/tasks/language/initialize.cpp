#include "moekit/tasks/language/initialize.h"

#include "moekit/core/error.h"
#include "moekit/core/random.h"
#include "moekit/models/decoder_io.h"
#include "moekit/run/run_folder.h"
#include "moekit/tensor/generator.h"

namespace moekit::language {
namespace fs = std::filesystem;

void initialize(models::DecoderImpl& model, const Config& config,
                const text::Tokenizer& tokenizer) {
  const auto seed = static_cast<uint64_t>(config.seed);
  model.reset_parameters(derive_seed(seed, "router-init"), derive_seed(seed, "experts-init"));
  if (config.init.dense_from.empty()) return;
  const fs::path run = config.init.dense_from;
  run::check_has_model("init.dense_from", run);
  about(concat("init.dense_from = ", run.string()), [&] {
    const auto file = run / "tokenizer.json";
    MOEKIT_CHECK(text::Tokenizer::load(file).document() == tokenizer.document(),
                 "its texts were cut into other tokens: wants the same texts, or data.tokenizer = ",
                 file.string());
    auto dense = models::load_decoder(run / "model");
    if (config.model.adapters.num_experts() > 0) return models::adapt_decoder(model, *dense);
    models::upcycle_decoder(model, *dense, config.init.upcycle,
                            tensor::make_generator(derive_seed(seed, "upcycle")));
  });
}

}  // namespace moekit::language
