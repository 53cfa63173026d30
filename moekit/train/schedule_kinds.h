#pragma once

#include <functional>
#include <vector>

#include "moekit/core/kinds.h"

namespace moekit::train {

/// Factor on the learning rate by the share of the steps that are done, 0..1.
using Schedule = std::function<double(double)>;
struct ScheduleSite {};

/// The table of schedules of the learning rate.
struct ScheduleKinds {
  using Row = Kind<Schedule, ScheduleSite>;
  static constexpr const char* kDefault = "constant";
  static constexpr const char* kWhat = "schedule";
  static constexpr const char* kDoc = "";
  static constexpr const char* kOptionsKey = "";
  static const std::vector<Row>& rows();
};

}  // namespace moekit::train
