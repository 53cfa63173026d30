#pragma once

#include <string>
#include <vector>

#include "moekit/data/image_dataset.h"

/// Tasks that are learnt one after another: data sets, each as it is or changed by a transform.
namespace moekit::data {

/// One task, by the name "SET" or "SET/TRANSFORM".
struct TaskName {
  std::string set;
  std::string transform = "identity";
};
/// @throws ArgumentError for a set or a transform that is not known, naming those that are
TaskName parse_task(const std::string& name);

struct StreamTask {
  std::string name;
  ImageSet train;       ///< one channel, square, uint8
  ImageSet validation;  ///< set apart from the training part; may be empty
  ImageSet test;
  std::vector<std::string> class_names;
};

struct StreamOptions {
  std::vector<std::string> tasks;
  int64_t side = 28;        ///< of the images; others are resized
  int64_t train_limit = 0;  ///< the first n training images; 0: all
  int64_t test_limit = 0;
  int64_t validation = 0;  ///< the last n of them are set apart
  int64_t per_class = 0;   ///< of the rest, n images a class drawn by the seed; 0: all
};

struct TaskStream {
  std::vector<StreamTask> tasks;
  std::string checksum;  ///< of the whole data sets in files; empty where all are generated
};

/// The checksum of a stream of these tasks. @throws as load_images()
std::string stream_checksum(const std::vector<std::string>& tasks, const std::string& folder);

/// Reads each data set once and makes the tasks of it. Colours become grey (ITU-R BT.601), images
/// of another size are resized.
/// @param folder  --data flag, may be empty
/// @throws ArgumentError for a limit or per_class beyond what a set has, or a set that holds
///         numbers; as load_images()
TaskStream load_stream(const StreamOptions& options, uint64_t seed, const std::string& folder);

}  // namespace moekit::data
