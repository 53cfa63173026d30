#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace moekit {

/// SHA-256 of bytes that come piece by piece.
class Sha256 {
 public:
  Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256();
  void add(std::string_view bytes);
  /// 64 lower-case hex digits. Nothing can be added afterwards.
  std::string hex();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// SHA-256 of the bytes, 64 lower-case hex digits.
std::string sha256(std::string_view bytes);

/// SHA-256 of a file's content, read piece by piece. @throws IoError naming the path
std::string sha256_file(const std::filesystem::path& path);

}  // namespace moekit
