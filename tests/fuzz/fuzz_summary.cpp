#include "moekit/run/run_folder.h"
#include "moekit/study/results.h"
#include "tests/fuzz/input.h"

// summary.json of a finished run, as commands and as a study's tables read it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  static const auto folder = [&] {
    const auto made = fuzz::make_folder("summary");
    std::filesystem::create_directories(made / "row" / "seed1");
    std::filesystem::create_symlink(fuzz::as_file(data, size),
                                    made / "row" / "seed1" / "summary.json");
    return made;
  }();
  fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    study::Row row;
    row.name = "row";
    run::read_summary(folder / "row" / "seed1");
    study::gather_row(row, {{"a", "a", "/test/error"}, {"b", "b", "/test/layers/0/x"}}, folder, 1);
  });
}
