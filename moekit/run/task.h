#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "moekit/compress/options.h"
#include "moekit/core/config.h"
#include "moekit/report/page.h"
#include "moekit/run/run_folder.h"
#include "moekit/study/study.h"
#include "moekit/tensor/operation_counter.h"
#include "moekit/text/generation.h"

namespace moekit::run {

/// A column of comparison tables over runs.
struct ReportFigure {
  std::string title;
  /// JSON pointer into a run's summary; "*" stands for the first member.
  std::string pointer;
  std::string doc = {};   ///< one sentence below the table, or empty
  std::string unit = {};  ///< behind the title and in sentences
  /// What the first sentence of a page says before the recipes with the largest and the smallest
  /// value, as "the error is lowest with"; where both are empty it says nothing of this figure.
  std::string of_largest = {};
  std::string of_smallest = {};
};

/// A kind of run: what its recipes say, how it is trained, what its folder shows. A recipe names it
/// by its key `task` ("classification" where there is none). A new kind implements this in a folder
/// of its own below tasks/ and is listed in tasks/tasks.cpp; commands, resuming and reports are the
/// same for all.
class Task {
 public:
  virtual ~Task() = default;
  virtual std::string_view name() const = 0;
  /// All keys of its recipes with their defaults.
  virtual std::vector<ConfigKey> keys() const = 0;
  /// Refuses an impossible recipe. @throws ArgumentError naming the key.
  virtual void check(const ConfigTree& recipe) const = 0;
  /// The name of the data set a recipe takes, in files or generated; nothing where it has none.
  virtual std::string data_set(const ConfigTree& recipe) const = 0;
  /// Why the data that a recipe takes cannot be read here; empty where they can. By default,
  /// whether the data set of that name is found.
  virtual std::string why_no_data(const ConfigTree& recipe, const std::string& data_folder) const;
  /// A recipe with all defaults, and a checksum of the data set it needs from a folder; what a run
  /// is held against. @throws ArgumentError naming the key; IoError, FormatError of the data
  virtual RunRecipe resolve(const ConfigTree& recipe, const std::string& data_folder) const = 0;
  /// Trains in a run folder, see run().
  virtual RunStatus run(const ConfigTree& recipe, const RunOptions& options) const = 0;
  /// Judges a finished run's model again.
  /// @throws ArgumentError where the kind has nothing that can be judged by itself.
  virtual Json evaluate(const std::filesystem::path& run, const std::string& data_folder) const;
  /// What a finished run tells about its experts.
  virtual Json inspect(const std::filesystem::path& run, const std::string& data_folder,
                       const std::string& against) const = 0;
  /// Operations of a forward pass of the finished run's model over `batch` test samples, 2 a
  /// multiply-add: "run", "batch", "operations" in all, and "parts", a list of "name" and
  /// "operations". What is really computed is counted (tensor/operation_counter.h).
  /// @throws ArgumentError where the kind has no such pass, or fewer samples.
  virtual Json operations(const std::filesystem::path& run, const std::string& data_folder,
                          int64_t batch) const;
  /// Merges the experts of the finished run's model until each layer has `options.keep`, and writes
  /// the result as a run folder of its own, which holds what is told here as merge.json:
  ///   "layers"  a layer's "used", "similarity", "groups" ("experts", "weights"), "output_error" on
  ///             test samples, relative, and "output_error_representatives", where the others are
  ///             left out instead
  ///   "before", "after", "representatives_alone"  "test", as in a summary; "parameters", "bytes"
  /// @param out  a folder that is not there yet
  /// @throws ArgumentError where the kind has no such model, or naming the flag and the layer
  virtual Json merge(const std::filesystem::path& run, const std::string& data_folder,
                     const compress::MergeOptions& options, const std::filesystem::path& out) const;
  /// Cuts the texts that a recipe names into tokens, in a folder that its key `data.tokens` takes.
  /// @param progress  is told bytes done, of how many; false to stop
  /// @return "folder", "finished", "domains": a domain's "documents", "tokens", "bytes"
  /// @throws ArgumentError where the kind has no text, or naming the key
  virtual Json tokenize(const ConfigTree& recipe, const std::filesystem::path& folder,
                        const std::function<bool(int64_t, int64_t)>& progress) const;
  /// Goes on with a prompt by the finished run's model.
  /// @param weights  format that feed-forward networks are packed in first; empty: as they are
  /// @param sink  gets the text as it comes, without the prompt
  /// @return "text", "prompt_tokens", "tokens", "ended_by", "tokens_per_second"
  /// @throws ArgumentError where the kind has no text, or naming the flag
  virtual Json generate(const std::filesystem::path& run, const text::GenerationOptions& options,
                        const std::string& weights,
                        const std::function<void(std::string_view)>& sink) const;
  /// The run's part of a report page.
  virtual report::ModelSection section(const std::string& title, const std::filesystem::path& run,
                                       const std::string& data_folder) const = 0;
  /// Columns of comparison tables.
  virtual std::vector<ReportFigure> report_figures() const { return {}; }
  /// Figures of studies that name none.
  virtual std::vector<study::Figure> study_figures() const { return {}; }
};

/// What Task::operations() gives, from a counter that was there while the model computed.
Json operations_json(const std::filesystem::path& run, int64_t batch,
                     const tensor::OperationCounter& counter);

/// The name a recipe gives its task. @throws ArgumentError when it is no string.
std::string task_name(const ConfigTree& recipe);

}  // namespace moekit::run
