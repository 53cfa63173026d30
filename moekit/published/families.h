#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/published/architecture.h"
#include "moekit/published/config_file.h"

namespace moekit::published {

/// One family of published mixtures: a file in families/ and a row of the table.
struct Family {
  std::string_view name;
  std::string_view model_type;  ///< of config.json
  Architecture (*read)(const ConfigFile& config);
};

const std::vector<Family>& families();

/// What config.json of `folder` (or the file itself) says. Where a model of several parts keeps its
/// text model under "text_config", that part.
/// @throws IoError, FormatError: no such file, an unknown family (the nearest is named), a key that
///         is missing or impossible.
Architecture read_architecture(const std::filesystem::path& path);
/// The same of keys that were read. @throws FormatError
Architecture read_architecture(ConfigFile config);

// A function a family; those that others build on say so in their file.
Architecture read_afmoe(const ConfigFile& config);
Architecture read_cohere2_moe(const ConfigFile& config);
Architecture read_dbrx(const ConfigFile& config);
Architecture read_deepseek_v2(const ConfigFile& config);
Architecture read_deepseek_v3(const ConfigFile& config);
Architecture read_dots1(const ConfigFile& config);
Architecture read_ernie4_5_moe(const ConfigFile& config);
Architecture read_exaone_moe(const ConfigFile& config);
Architecture read_flex_olmo(const ConfigFile& config);
Architecture read_glm4_moe(const ConfigFile& config);
Architecture read_glm4_moe_lite(const ConfigFile& config);
Architecture read_gpt_oss(const ConfigFile& config);
Architecture read_granitemoe(const ConfigFile& config);
Architecture read_granitemoehybrid(const ConfigFile& config);
Architecture read_granitemoeshared(const ConfigFile& config);
Architecture read_hunyuan_v1_moe(const ConfigFile& config);
Architecture read_hy_v3(const ConfigFile& config);
Architecture read_jamba(const ConfigFile& config);
Architecture read_lfm2_moe(const ConfigFile& config);
Architecture read_llama4(const ConfigFile& config);
Architecture read_longcat_flash(const ConfigFile& config);
Architecture read_mimo_v2_flash(const ConfigFile& config);
Architecture read_minimax(const ConfigFile& config);
Architecture read_minimax_m2(const ConfigFile& config);
Architecture read_mixtral(const ConfigFile& config);
Architecture read_olmoe(const ConfigFile& config);
Architecture read_phimoe(const ConfigFile& config);
Architecture read_qwen2_moe(const ConfigFile& config);
Architecture read_qwen3_5_moe(const ConfigFile& config);
Architecture read_qwen3_moe(const ConfigFile& config);
Architecture read_qwen3_next(const ConfigFile& config);
Architecture read_solar_open(const ConfigFile& config);

/// DeepSeek-V3's mixture, which other families have too.
MixturePart deepseek_v3_mixture(const ConfigFile& config, int64_t hidden_size);

}  // namespace moekit::published
