#include "moekit/run/checkpoint.h"
#include "moekit/run/run_folder.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/tiny_problem.h"

// state.json of a checkpoint whose other files are sound.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  static fuzz::TinyProblem problem;
  static train::Trainer trainer(problem, nullptr, {}, {});
  static const auto folder = [&] {
    auto run = fuzz::make_folder("state");
    run::save_checkpoint(run, trainer, {});
    const auto made = run::list_checkpoints(run).begin()->second;
    // Without checksums the text itself is judged.
    std::filesystem::remove(made / "manifest.json");
    std::filesystem::remove(made / "state.json");
    std::filesystem::create_symlink(fuzz::as_file(data, size), made / "state.json");
    return run;
  }();
  fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    std::vector<Json> metrics;
    run::load_newest_checkpoint(folder, trainer, metrics, {});
  });
}
