#include "moekit/tasks/classification/run_files.h"

#include "moekit/core/schema.h"
#include "moekit/run/run_folder.h"

namespace moekit::classification {
namespace {

constexpr bool kOptional = false;

Schema table() { return Schema::list(Schema::list(Schema::figure())); }

/// What `evaluation_summary` writes.
Schema evaluation() {
  const Schema cluster =
      Schema::object({{"counts", Schema::list(Schema::list(Schema::number(0)))}});
  const Schema layer = Schema::object({{"usage", Schema::list(Schema::figure(0))},
                                       {"mutual_information", Schema::figure(), kOptional},
                                       {"mutual_information_selected", Schema::figure(), kOptional},
                                       {"usage_entropy", Schema::figure()},
                                       {"sample_entropy", Schema::figure()},
                                       {"cluster", cluster, kOptional}});
  return Schema::object({{"error", Schema::number(0, 1)},
                         {"loss", Schema::figure()},
                         {"layers", Schema::map(layer), kOptional}});
}

/// What `alignments` makes.
Schema alignment() {
  return Schema::object({{"experts", Schema::map(table()), kOptional},
                         {"router", Schema::map(table()), kOptional},
                         {"centre_over_label", Schema::figure(), kOptional},
                         {"centres_covered", Schema::count(), kOptional},
                         {"experts_in_use", Schema::count(), kOptional}});
}

}  // namespace

Json read_run_summary(const std::filesystem::path& run) {
  static const Schema kSchema = Schema::object(
      {{"recipe", Schema::text()},
       {"epochs", Schema::count()},
       {"stopped_early", Schema::boolean()},
       {"test", evaluation()},
       {"train", Schema::object({{"error", Schema::number(0, 1)}, {"loss", Schema::figure()}})},
       {"alignment", alignment(), kOptional}});
  return run::read_summary(run, kSchema);
}

std::vector<Json> read_run_metrics(const std::filesystem::path& run) {
  static const Schema kSchema = Schema::object({{"epoch", Schema::count()},
                                                {"step", Schema::count()},
                                                {"train_loss", Schema::figure()},
                                                {"aux_loss", Schema::figure()},
                                                {"train_error", Schema::figure()},
                                                {"test", evaluation()},
                                                {"validation_loss", Schema::figure(), kOptional},
                                                {"alignment", alignment(), kOptional}});
  return run::read_metrics(run, kSchema);
}

}  // namespace moekit::classification
