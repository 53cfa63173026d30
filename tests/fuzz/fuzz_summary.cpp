#include "moekit/run/run_folder.h"
#include "moekit/study/results.h"
#include "tests/fuzz/input.h"

// summary.json of a finished run, as commands and as a study's tables read it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  static const auto folder = [&] {
    const auto made = fuzz::make_folder("summary");
    for (const char* name : {"summary.json", "run.json"}) {
      std::filesystem::create_symlink(fuzz::as_file(data, size), made / name);
    }
    return made;
  }();
  fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    study::read_values(folder, {{"a", "a", "/test/error"}, {"b", "b", "/test/layers/0/x"}});
    study::read_maker(folder);
    run::read_summary(folder);
  });
}
