#include "moekit/data/corpora.h"

#include <algorithm>

#include "moekit/core/error.h"
#include "moekit/core/json.h"
#include "moekit/data/compressed.h"

namespace moekit::data {
namespace fs = std::filesystem;
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 32;  // of one file
// Of the headers, which are many times as long as the other texts.
constexpr std::size_t kMostCode = std::size_t{3} << 20;

bool hidden(const fs::path& path) { return path.filename().string().starts_with("."); }

/// Files below a folder, by path. @param deep  also those of folders in it
std::vector<fs::path> files_in(const fs::path& folder, bool deep) {
  std::vector<fs::path> files;
  std::error_code error;
  const auto add = [&](const fs::directory_entry& entry) {
    std::error_code ignored;
    if (entry.is_regular_file(ignored) && !hidden(entry.path())) files.push_back(entry.path());
  };
  if (deep) {
    for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
         it.increment(error)) {
      if (hidden(it->path()) && it->is_directory()) {
        it.disable_recursion_pending();
      } else {
        add(*it);
      }
    }
  } else {
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      add(*it);
    }
  }
  if (error) throw IoError(concat(folder.string(), ": ", error.message()));
  std::sort(files.begin(), files.end());
  return files;
}

void require(bool there, const fs::path& path, const char* package) {
  if (there) return;
  throw IoError(concat(path.string(), ": is not there; install the Debian package ", package,
                       ", or name texts of your own by data.corpus"));
}

void add_document(TextDomain& domain, std::string text) {
  if (!text.empty()) domain.documents.push_back(std::move(text));
}

TextDomain read_jargon() {
  const fs::path file = "/usr/share/doc/jargon-text/jargon.txt.gz";
  require(fs::exists(file), file, "jargon-text");
  TextDomain domain{"jargon", {}};
  add_document(domain, read_unpacked(file, kMostBytes));
  return domain;
}

/// Files of sayings with a line of one % between them; an index and a link go beside each.
TextDomain read_sayings(const char* name, const fs::path& folder, const char* package) {
  std::error_code error;
  require(fs::is_directory(folder, error), folder, package);
  TextDomain domain{name, {}};
  for (const auto& file : files_in(folder, /*deep=*/false)) {
    if (file.extension() == ".dat" || file.extension() == ".u8") continue;
    const auto text = read_unpacked(file, kMostBytes);
    constexpr std::string_view kBetween = "\n%\n";
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find(kBetween, at), text.size());
      add_document(domain, text.substr(at, end - at));
      at = end + kBetween.size();
    }
  }
  require(!domain.documents.empty(), folder, package);
  return domain;
}

TextDomain read_code() {
  const fs::path folder = "/usr/include/c++";
  std::error_code error;
  fs::path newest;
  int most = 0;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const int number = std::atoi(it->path().filename().c_str());
    if (number > most && it->is_directory()) {
      most = number;
      newest = it->path();
    }
  }
  require(most > 0, folder, "libstdc++-dev (it comes with g++)");
  TextDomain domain{"code", {}};
  std::size_t bytes = 0;
  for (const auto& file : files_in(newest / "bits", /*deep=*/false)) {
    auto text = read_unpacked(file, kMostBytes);
    bytes += text.size();
    if (bytes > kMostCode) break;
    add_document(domain, std::move(text));
  }
  require(!domain.documents.empty(), newest / "bits", "libstdc++-dev (it comes with g++)");
  return domain;
}

}  // namespace

std::vector<TextDomain> default_corpus() {
  const fs::path games = "/usr/share/games/fortunes";
  return {read_jargon(), read_sayings("quotes", games, "fortunes"),
          read_sayings("german", games / "de", "fortunes-de"), read_code()};
}

std::vector<TextDomain> read_corpus(const fs::path& path) {
  std::error_code error;
  std::vector<TextDomain> domains;
  const auto add = [&](const fs::path& at, const std::vector<fs::path>& files) {
    TextDomain domain{at.stem().string(), {}};
    MOEKIT_CHECK(is_utf8(domain.name), path.string(), ": the name of ", in_quotes(at.string()),
                 ", a domain, must be UTF-8");
    for (const auto& file : files) add_document(domain, read_unpacked(file, kMostBytes));
    if (!domain.documents.empty()) domains.push_back(std::move(domain));
  };
  if (!fs::is_directory(path, error)) {
    add(path, {path});
  } else {
    std::vector<fs::path> entries;
    for (fs::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      if (!hidden(it->path())) entries.push_back(it->path());
    }
    if (error) throw IoError(concat(path.string(), ": ", error.message()));
    std::sort(entries.begin(), entries.end());
    for (const auto& entry : entries) {
      const bool folder = fs::is_directory(entry, error);
      add(entry, folder ? files_in(entry, /*deep=*/true) : std::vector<fs::path>{entry});
    }
  }
  MOEKIT_CHECK(!domains.empty(), path.string(), ": holds no text");
  for (std::size_t i = 0; i < domains.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      MOEKIT_CHECK(domains[i].name != domains[k].name, path.string(), ": two domains are called ",
                   domains[i].name);
    }
  }
  return domains;
}

}  // namespace moekit::data
