#include "moekit/kernels/common/path_cache.h"

#include <sstream>
#include <vector>

#include "moekit/core/cache_folder.h"
#include "moekit/core/error.h"
#include "moekit/core/files.h"
#include "moekit/core/machine.h"
#include "moekit/core/version.h"

namespace moekit::kernels {
namespace {

constexpr std::uint64_t kMaxBytes = 1 << 16;  // far beyond what keep_choice() writes

std::string names_of(const std::vector<Isa>& sets) {
  std::string names;
  for (const auto isa : sets) names += " " + std::string(isa_name(isa));
  return names;
}

/// The sets that a line "key name name ..." names; nothing where it is another line.
std::optional<std::vector<Isa>> sets_of_line(std::istream& text, std::string_view wanted) {
  std::string line;
  if (!std::getline(text, line)) return std::nullopt;
  std::istringstream words(line);
  std::string word;
  if (!(words >> word) || word != wanted) return std::nullopt;
  std::vector<Isa> sets;
  while (words >> word) {
    sets.push_back(parse_isa(word));
    if (!isa_supported(sets.back())) return std::nullopt;
  }
  return sets;
}

}  // namespace

std::string choice_owner() {
  return concat("moekit ", version(), "\n", processor_identity(), ";", names_of(supported_isas()),
                "\n");
}

std::string choice_text(const PathChoice& choice, std::string_view owner) {
  return concat(owner, "f32 ", isa_name(choice.paths.f32), "\nbf16 ", isa_name(choice.paths.bf16),
                "\nintegers ", isa_name(choice.paths.int8), "\nrefused", names_of(choice.refused),
                "\n");
}

std::optional<PathChoice> parse_choice(std::string_view text, std::string_view owner) {
  if (text.substr(0, owner.size()) != owner) return std::nullopt;
  std::istringstream lines{std::string(text.substr(owner.size()))};
  try {
    std::vector<Isa> chosen;
    for (const auto* key : {"f32", "bf16", "integers"}) {
      const auto sets = sets_of_line(lines, key);
      if (!sets || sets->size() != 1) return std::nullopt;
      chosen.push_back(sets->front());
    }
    const auto refused = sets_of_line(lines, "refused");
    if (!refused) return std::nullopt;
    return PathChoice{{chosen[0], chosen[1], chosen[2]}, *refused};
  } catch (const ArgumentError&) {
    return std::nullopt;  // a set of another version
  }
}

std::optional<std::filesystem::path> choice_file() {
  const auto folder = find_cache_folder();
  if (!folder) return std::nullopt;
  return *folder / "instruction-sets";
}

std::optional<PathChoice> read_choice() {
  const auto file = choice_file();
  std::error_code error;
  if (!file || !std::filesystem::is_regular_file(*file, error)) return std::nullopt;
  try {
    return parse_choice(read_file(*file, kMaxBytes), choice_owner());
  } catch (const Error&) {
    return std::nullopt;
  }
}

void keep_choice(const PathChoice& choice) {
  const auto file = choice_file();
  if (!file) return;
  try {
    create_folders(file->parent_path());
    write_file_atomic(*file, choice_text(choice, choice_owner()));
  } catch (const Error&) {
    // A full or read-only disk: nothing depends on it.
  }
}

}  // namespace moekit::kernels
