#include "moekit/tasks/merged_linear/config.h"

namespace moekit::merged_linear {

namespace {

/// Refuses keys of a section that nothing looks at. @param why  what would make them count
template <typename Section>
void check_unused(const Section& section, const char* name, const char* why) {
  const Json given = to_json(section);
  const Json defaults = to_json(Section{});
  for (const auto& [key, value] : given.items()) {
    MOEKIT_CHECK(value == defaults[key], name, ".", key, " = ", value.dump(),
                 " has no effect with ", why);
  }
}

}  // namespace

void validate(const Config& c) {
  check_values(c, "");
  if (c.encoder.selected == 0) check_unused(c.encoder, "encoder", "encoder.selected = 0");
  if (!c.equality && c.latency.runs == 0) {
    MOEKIT_CHECK(c.encoder.selected > 0,
                 "equality = false, latency.runs = 0 and encoder.selected = 0 leave nothing to do");
    check_unused(c.layer, "layer", "equality = false and latency.runs = 0");
  }
  MOEKIT_CHECK(c.layer.top_k <= c.layer.num_experts, "layer.top_k must be 1..num_experts = 1..",
               c.layer.num_experts, "; got ", c.layer.top_k);
  MOEKIT_CHECK(c.layer.token_reduction <= c.layer.hidden_size,
               "layer.token_reduction must be at most hidden_size = ", c.layer.hidden_size,
               "; got ", c.layer.token_reduction);
  MOEKIT_CHECK(c.latency.runs > 0 || c.latency.seconds == 0,
               "latency.seconds = ", c.latency.seconds,
               " has no effect with latency.runs = 0, which takes no time");
  MOEKIT_CHECK(c.latency.runs == 0 || c.layer.unit == nn::GateUnit::kSequence,
               "latency.runs = ", c.latency.runs, " wants layer.unit = \"sequence\"; got \"",
               enum_name(c.layer.unit), "\"");
}

}  // namespace moekit::merged_linear
