#include "moekit/bench/moe_report.h"

#include <algorithm>

namespace moekit::bench {
namespace {

Json json_of(const LayerShape& shape) {
  return {{"name", shape.name},
          {"num_experts", shape.num_experts},
          {"top_k", shape.top_k},
          {"hidden_size", shape.hidden_size},
          {"intermediate_size", shape.intermediate_size},
          {"shared_size", shape.shared_size}};
}

Json json_of(const MoeBenchRow& row) {
  Json ratios = Json::object();
  for (const auto& [name, ratio] : row.ratios) ratios[name] = ratio;
  const auto& format = kernels::format_info(kernels::parse_weight_format(row.format));
  return {{"format", row.format},
          {"tokens", row.tokens},
          {"threads", row.threads},
          {"runs", row.runs},
          {"layers", row.layers},
          {"distinct_experts", row.distinct_experts},
          {"median_ms", row.median_ms},
          {"p10_ms", row.p10_ms},
          {"operations_per_second", row.operations_per_second},
          {"bytes_per_second", row.bytes_per_second},
          {"reuse_bytes", row.reuse_bytes},
          {"peak_per_second", row.limits.path.of(format)},
          {"best_peak_per_second", row.limits.best.of(format)},
          {"read_bytes_per_second", row.limits.read_bytes_per_second},
          {"write_bytes_per_second", row.limits.write_bytes_per_second},
          {"bound_ms", row.bound_ms},
          {"bound_fraction", row.bound_fraction},
          {"peak_fraction", row.peak_fraction},
          {"best_peak_fraction", row.best_peak_fraction},
          {"read_fraction", row.read_fraction},
          {"plain_read_ms", row.plain_read_ms},
          {"times_as_fast_as", ratios}};
}

}  // namespace

void rate_row(MoeBenchRow& row, const std::vector<double>& ms, const StepCost& cost,
              const kernels::FormatInfo& format) {
  row.runs = static_cast<std::int64_t>(ms.size());
  row.median_ms = ms[ms.size() / 2];
  row.p10_ms = ms[ms.size() / 10];
  row.operations_per_second = cost.operations / (row.median_ms / 1e3);
  row.bytes_per_second = (cost.bytes_read + cost.bytes_written) / (row.median_ms / 1e3);
  const double peak = row.limits.path.of(format);
  if (peak <= 0) return;
  const double moving = cost.bytes_read / row.limits.read_bytes_per_second +
                        cost.bytes_written / row.limits.write_bytes_per_second;
  row.peak_fraction = row.operations_per_second / peak;
  row.best_peak_fraction = row.operations_per_second / row.limits.best.of(format);
  row.read_fraction = 1e3 * moving / row.median_ms;
  row.bound_ms = 1e3 * std::max(cost.operations / peak, moving);
  row.bound_fraction = row.bound_ms / row.median_ms;
}

Json to_json(const MoeBenchReport& report) {
  Json out;
  out["shape"] = json_of(report.shape);
  out["pass"] = enum_name(report.pass);
  out["routing"] = enum_name(report.routing);
  out["isa"] = kernels::paths_text(report.paths);
  out["seed"] = report.seed;
  out["limits"] = Json::array();
  for (const auto& [threads, limits] : report.limits) {
    out["limits"].push_back({{"threads", threads},
                             {"f32_per_second", limits.path.f32_per_second},
                             {"bf16_per_second", limits.path.bf16_per_second},
                             {"int8_per_second", limits.path.int8_per_second},
                             {"read_bytes_per_second", limits.read_bytes_per_second},
                             {"write_bytes_per_second", limits.write_bytes_per_second}});
  }
  out["rows"] = Json::array();
  for (const auto& row : report.rows) out["rows"].push_back(json_of(row));
  return out;
}

}  // namespace moekit::bench
