#pragma once

#include <string>

#include "moekit/train/run_report.h"
#include "moekit/train/task.h"

namespace moekit::cli {

/// The kinds of run there are.
const std::vector<const train::Task*>& tasks();

/// The task a recipe names. @throws ArgumentError listing the known ones.
const train::Task& task_of(const ConfigTree& recipe);

/// The task of a run folder. @throws IoError when it is none.
const train::Task& task_of_run(const std::filesystem::path& run);

/// Shows every run as its task does.
train::SectionMaker section_maker(const std::string& data_folder);

}  // namespace moekit::cli
