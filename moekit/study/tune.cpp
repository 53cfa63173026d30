#include "moekit/study/tune.h"

#include <algorithm>

namespace moekit::study {
namespace {

/// All points of a grid.
std::vector<std::vector<std::string>> points_of(const Json& grid) {
  std::vector<std::vector<std::string>> points = {{}};
  for (const auto& [key, values] : grid.items()) {
    std::vector<std::vector<std::string>> longer;
    for (const auto& point : points) {
      for (const auto& value : values) {
        longer.push_back(point);
        longer.back().push_back(concat(key, "=", toml_value(value)));
      }
    }
    points = std::move(longer);
  }
  return points;
}

/// Calls visit(row, tune, point, k) for every trial.
template <typename Visit>
void for_trials(const Study& study, const std::vector<Row>& rows, Visit&& visit) {
  for (const auto& row : rows) {
    const Tune* tune = tune_of(study, row.name);
    if (tune == nullptr) continue;
    size_t k = 0;
    for (const auto& point : points_of(tune->grid)) visit(row, *tune, point, ++k);
  }
}

}  // namespace

std::vector<Row> trial_rows(const Study& study, const std::vector<Row>& rows) {
  std::vector<Row> trials;
  for_trials(study, rows, [&](const Row& row, const Tune& tune, const auto& point, size_t k) {
    Row& trial = trials.emplace_back(row);
    trial.name = concat("tune/", row.name, "/", k);
    trial.set.insert(trial.set.end(), point.begin(), point.end());
    trial.seeds = tune.seeds;
    trial.auxiliary = false;
  });
  return trials;
}

std::vector<Trial> choose_trials(const Study& study, const std::vector<Row>& rows,
                                 const std::vector<RowResult>& results) {
  std::vector<Trial> trials;
  for_trials(study, rows, [&](const Row& row, const Tune& tune, const auto& point, size_t) {
    const RowResult& result = results.at(trials.size());
    const Cell& cell = result.cells.at(tune.figure);
    Trial& trial = trials.emplace_back(Trial{row.name, point, cell.estimate, {}, false});
    if (cell.ours.count < static_cast<size_t>(tune.seeds)) {
      trial.missing = result.what_is_missing();
      if (trial.missing.empty()) trial.missing = concat("no value of ", tune.figure);
    }
  });
  for (const auto& row : rows) {
    const Tune* tune = tune_of(study, row.name);
    if (tune == nullptr) continue;
    const bool lower = figure_of(study.figure, tune->figure).better == Better::kLower;
    Trial* chosen = nullptr;
    for (auto& trial : trials) {
      if (trial.row != row.name || !trial.missing.empty()) continue;
      const double value = trial.figure.value;
      if (chosen == nullptr ||
          (lower ? value < chosen->figure.value : value > chosen->figure.value))
        chosen = &trial;
    }
    if (chosen != nullptr) chosen->chosen = true;
  }
  return trials;
}

std::string why_untuned(const std::string& row, const std::vector<Trial>& trials) {
  std::string reason;
  for (const auto& trial : trials) {
    if (trial.row != row) continue;
    if (trial.chosen) return {};
    reason = concat("no point of its search is finished: ", trial.missing);
  }
  return reason;
}

Row tuned_row(Row row, const std::vector<Trial>& trials) {
  for (const auto& trial : trials) {
    if (trial.row != row.name || !trial.chosen) continue;
    row.set.insert(row.set.end(), trial.set.begin(), trial.set.end());
  }
  return row;
}

}  // namespace moekit::study
