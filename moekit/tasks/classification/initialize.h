#pragma once

#include "moekit/nn/surgery.h"
#include "moekit/tasks/classification/config.h"

namespace moekit::classification {

/// Draws the first weights, copies what `init` asks for out of other runs and freezes what it
/// names.
/// @throws ArgumentError where the model has no such part, IoError or FormatError for a run whose
/// model cannot be read or does not fit.
nn::FrozenModules initialize(models::ClassifierImpl& model, const Config& config);

}  // namespace moekit::classification
