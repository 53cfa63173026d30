#include "cli/guard.h"

#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>

#include "moekit/core/error.h"

namespace moekit::cli {
namespace {

int fail(const char* what, int code) {
  std::fprintf(stderr, "moekit: %s\n", what);
  return code;
}

}  // namespace

int guarded(const std::function<int()>& work) {
  try {
    return work();
  } catch (const ArgumentError& error) {
    return fail(error.what(), kMisused);
  } catch (const FormatError& error) {
    return fail(error.what(), kFailed);
  } catch (const std::filesystem::filesystem_error& error) {
    return fail(concat(error.path1().string(), ": ", error.code().message()).c_str(), kFailed);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", kFailed);
  } catch (const std::exception& error) {
    // fmt::print throws where stdout takes nothing more; whoever ends the program says so.
    if (std::ferror(stdout) != 0) return kFailed;
    // Of an error that is not ours the first line: libtorch appends its stack.
    const std::string what = error.what();
    return fail(what.substr(0, what.find('\n')).c_str(), kFailed);
  }
}

}  // namespace moekit::cli
