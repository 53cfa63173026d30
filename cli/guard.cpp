#include "cli/guard.h"

#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>

#include "moekit/core/error.h"

namespace moekit::cli {
namespace {

/// Names and values of a damaged file may be as long as the file.
constexpr std::size_t kMostShown = 4000;

int fail(std::string what, int code) {
  if (what.size() > kMostShown) {
    std::size_t end = kMostShown;
    while (end > 0 && (static_cast<unsigned char>(what[end]) & 0xc0) == 0x80)
      --end;  // no half letter
    what = concat(what.substr(0, end), "... (", what.size() - end, " bytes more)");
  }
  std::fprintf(stderr, "moekit: %s\n", what.c_str());
  return code;
}

}  // namespace

int guarded(const std::function<int()>& work) {
  try {
    return work();
  } catch (const ArgumentError& error) {
    return fail(error.what(), kMisused);
  } catch (const Error& error) {
    return fail(error.what(), kFailed);
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(concat(error.path1().string(), ": ", error.code().message()), kFailed);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", kFailed);
  } catch (const std::exception& error) {
    // fmt::print throws where stdout takes nothing more; whoever ends the program says so.
    if (std::ferror(stdout) != 0) return kFailed;
    // Of an error that is not ours the first line: libtorch appends its stack.
    const std::string what = error.what();
    return fail(what.substr(0, what.find('\n')), kFailed);
  }
}

}  // namespace moekit::cli
