#include "moekit/run/run_folder.h"
#include "tests/fuzz/input.h"

// metrics.jsonl, and the lines written again.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace moekit;
  static const auto folder = [&] {
    const auto made = fuzz::make_folder("metrics");
    std::filesystem::create_symlink(fuzz::as_file(data, size), made / "metrics.jsonl");
    return made;
  }();
  fuzz::as_file(data, size);
  return fuzz::read_untrusted([&] {
    for (const auto& line : run::read_metrics(folder)) {
      const std::string text = dump_text(line);
      if (dump_text(parse_json(text, "again")) != text) std::abort();
    }
  });
}
