#pragma once

#include <map>
#include <string>
#include <vector>

#include "moekit/data/image_dataset.h"
#include "moekit/tasks/classification/config.h"

namespace moekit::classification {

/// The data a run works on, cut and split as its recipe says.
struct RunData {
  data::ImageSet train;
  data::ImageSet validation;  ///< empty unless data.validation > 0
  data::ImageSet test;
  data::Normalization normalization;
  std::vector<std::string> class_names;
  models::InputShape input;
  std::map<std::string, torch::Tensor> directions;  ///< of generated data, else empty
  std::string checksum;  ///< of the whole data set; empty where it is generated
};

/// @param folder  --data flag, may be empty
/// @throws ArgumentError when a limit, holdout or validation part is larger than the set.
RunData load_run_data(const Config& config, const std::string& folder);
/// The same from a data set that is loaded already.
RunData make_run_data(const Config& config, const data::ImageDataset& dataset);

}  // namespace moekit::classification
