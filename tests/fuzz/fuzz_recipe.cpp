#include "moekit/tasks/tasks.h"
#include "tests/fuzz/input.h"

// A recipe, with an override where the first line begins with "--set ".
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  return fuzz::read_untrusted([&] {
    std::string_view text = fuzz::as_text(data, size);
    std::string_view assignment;
    if (constexpr std::string_view kFlag = "--set "; text.substr(0, kFlag.size()) == kFlag) {
      const auto end = std::min(text.find('\n'), text.size());
      assignment = text.substr(kFlag.size(), end - kFlag.size());
      text.remove_prefix(end);
    }
    ConfigTree recipe = parse_toml(text, "recipe.toml");
    if (!assignment.empty()) apply_override(recipe, assignment);
    tasks::check_recipe(recipe).data_set(recipe);
  });
}
