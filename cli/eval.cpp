#include <fmt/format.h>

#include "cli/command.h"
#include "cli/print.h"
#include "moekit/core/error.h"
#include "moekit/core/progress.h"
#include "moekit/models/loaded_model.h"
#include "moekit/models/model_eval.h"
#include "moekit/tasks/tasks.h"

namespace moekit::cli {
namespace {

int judge_published(const EvalFlags& flags) {
  std::optional<Progress> progress;
  const Json judged = models::eval_model(flags.run, {flags.texts.begin(), flags.texts.end()},
                                         flags.window, [&](int64_t done, int64_t total) {
                                           if (!progress) progress.emplace("eval", total, "window");
                                           progress->update(done);
                                         });
  progress.reset();
  if (flags.json) {
    fmt::print("{}\n", dump_text(judged, 2));
    return 0;
  }
  fmt::print("{:24} {:>10} {:>12} {:>12} {:>14}\n", "text", "tokens", "nats a token", "perplexity",
             "bits a byte");
  for (const auto& row : judged["domains"]) {
    fmt::print("{:24} {:>10} {:>12.4f} {:>12.3f} {:>14.4f}\n", row["name"].get<std::string>(),
               row["tokens"].get<int64_t>(), row["loss"].get<double>(),
               row["perplexity"].get<double>(), row["bits_per_byte"].get<double>());
  }
  if (judged["domains"].size() > 1) {
    fmt::print("{:24} {:>10} {:>12.4f} {:>12} {:>14.4f}\n", "mean of texts", "",
               judged["mean"]["loss"].get<double>(), "",
               judged["mean"]["bits_per_byte"].get<double>());
  }
  fmt::print("windows of {} tokens\n", judged["window"].get<int64_t>());
  return 0;
}

}  // namespace

int run(const EvalFlags& flags) {
  if (models::is_published_model(flags.run)) return judge_published(flags);
  MOEKIT_CHECK(flags.texts.empty(), "eval: --text is for published models; ", flags.run,
               " is a run, which is judged on its own data");
  note_unchecked(flags.run);
  const Json summary = tasks::of_run(flags.run).evaluate(flags.run, flags.data);
  if (flags.json) {
    fmt::print("{}\n", dump_text(summary, 2));
  } else {
    print_summary(summary);
  }
  return 0;
}

}  // namespace moekit::cli
