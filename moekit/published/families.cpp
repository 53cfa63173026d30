#include "moekit/published/families.h"

#include <algorithm>
#include <utility>

#include "moekit/core/error.h"
#include "moekit/core/words.h"

namespace moekit::published {

const std::vector<Family>& families() {
  static const std::vector<Family> table{
      {"afmoe", "afmoe", read_afmoe},
      {"cohere2_moe", "cohere2_moe", read_cohere2_moe},
      {"dbrx", "dbrx", read_dbrx},
      {"deepseek_v2", "deepseek_v2", read_deepseek_v2},
      {"deepseek_v3", "deepseek_v3", read_deepseek_v3},
      {"dots1", "dots1", read_dots1},
      {"ernie4_5_moe", "ernie4_5_moe", read_ernie4_5_moe},
      {"exaone_moe", "exaone_moe", read_exaone_moe},
      {"flex_olmo", "flex_olmo", read_flex_olmo},
      {"glm4_moe", "glm4_moe", read_glm4_moe},
      {"glm4_moe_lite", "glm4_moe_lite", read_glm4_moe_lite},
      {"gpt_oss", "gpt_oss", read_gpt_oss},
      {"granitemoe", "granitemoe", read_granitemoe},
      {"granitemoehybrid", "granitemoehybrid", read_granitemoehybrid},
      {"granitemoeshared", "granitemoeshared", read_granitemoeshared},
      {"hunyuan_v1_moe", "hunyuan_v1_moe", read_hunyuan_v1_moe},
      {"hy_v3", "hy_v3", read_hy_v3},
      {"jamba", "jamba", read_jamba},
      {"lfm2_moe", "lfm2_moe", read_lfm2_moe},
      {"llama4", "llama4_text", read_llama4},
      {"longcat_flash", "longcat_flash", read_longcat_flash},
      {"mimo_v2_flash", "mimo_v2_flash", read_mimo_v2_flash},
      {"minimax", "minimax", read_minimax},
      {"minimax_m2", "minimax_m2", read_minimax_m2},
      {"mixtral", "mixtral", read_mixtral},
      {"olmoe", "olmoe", read_olmoe},
      {"phimoe", "phimoe", read_phimoe},
      {"qwen2_moe", "qwen2_moe", read_qwen2_moe},
      {"qwen3_5_moe", "qwen3_5_moe_text", read_qwen3_5_moe},
      {"qwen3_moe", "qwen3_moe", read_qwen3_moe},
      {"qwen3_next", "qwen3_next", read_qwen3_next},
      {"solar_open", "solar_open", read_solar_open},
  };
  return table;
}

namespace {

const Family* family_of(const std::string& model_type) {
  const auto& all = families();
  const auto at = std::find_if(all.begin(), all.end(), [&](const Family& family) {
    return family.model_type == model_type;
  });
  return at == all.end() ? nullptr : &*at;
}

}  // namespace

Architecture read_architecture(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  const fs::path file = fs::is_directory(path) ? path / "config.json" : path;
  ConfigFile config(file);
  if (!config.has("model_type") && fs::exists(file.parent_path() / "manifest.json")) {
    throw FormatError(concat(file.string(), ": no published model, but a run of moekit; moekit ",
                             "inspect shows it"));
  }
  return read_architecture(std::move(config));
}

Architecture read_architecture(ConfigFile config) {
  const bool nested = config.has("text_config") &&
                      family_of(config.section("text_config").text("model_type", "")) != nullptr;
  if (nested) config = config.section("text_config");
  const auto type = config.text("model_type", "");
  const Family* family = family_of(type);
  if (family == nullptr) {
    std::vector<std::string> known;
    std::string list;
    for (const auto& each : families()) {
      known.emplace_back(each.model_type);
      list += (list.empty() ? "" : ", ") + known.back();
    }
    config.refuse("model_type", concat("not a family that is known", did_you_mean(type, known),
                                       "; known are ", list));
  }
  auto out = family->read(config);
  out.family = family->name;
  return out;
}

}  // namespace moekit::published
