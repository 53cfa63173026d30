#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moekit::data {

/// Texts of one kind, as one author's or one language's.
struct TextDomain {
  std::string name;
  std::vector<std::string> documents;  ///< none is empty
};

/// Texts of Debian packages, in domains that differ: "jargon" (the Jargon File, from jargon-text),
/// "quotes" (English, from fortunes), "german" (quotes and jokes, from fortunes-de) and "code" (the
/// headers of the C++ library that this machine's compiler came with). What is in them depends on
/// the packages' versions: a run notes a checksum.
/// @throws IoError naming the file and its package
std::vector<TextDomain> default_corpus();

/// Texts of a folder: each folder in it is a domain of its files, and each file a domain of one
/// document, by name; those whose name begins with a dot are left out. .gz and .xz are unpacked.
/// @param path  the folder, or one file
/// @throws IoError, FormatError naming the file; ArgumentError where there is no text
std::vector<TextDomain> read_corpus(const std::filesystem::path& path);

}  // namespace moekit::data
