#include "moekit/core/checksum.h"

#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "moekit/core/error.h"

namespace moekit {
namespace {

void require(bool done) {
  if (!done) throw IoError("sha256: OpenSSL refused");
}

}  // namespace

struct Sha256::State {
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context{EVP_MD_CTX_new(), &EVP_MD_CTX_free};
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  require(state_->context && EVP_DigestInit_ex(state_->context.get(), EVP_sha256(), nullptr) == 1);
}

Sha256::~Sha256() = default;

void Sha256::add(std::string_view bytes) {
  require(EVP_DigestUpdate(state_->context.get(), bytes.data(), bytes.size()) == 1);
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  require(EVP_DigestFinal_ex(state_->context.get(), digest.data(), &length) == 1);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (unsigned int i = 0; i < length; ++i) {
    out += kHex[digest[i] >> 4];
    out += kHex[digest[i] & 15];
  }
  return out;
}

std::string sha256(std::string_view bytes) {
  Sha256 sum;
  sum.add(bytes);
  return sum.hex();
}

std::string sha256_file(const std::filesystem::path& path) {
  // Read, not mapped: a bad sector is then an error with a message and not a death by SIGBUS.
  std::ifstream in(path, std::ios::binary);
  if (!in) throw IoError(concat("cannot open ", path.string(), ": ", std::strerror(errno)));
  Sha256 sum;
  std::vector<char> buffer(std::size_t{1} << 20);
  while (in.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0) {
    sum.add({buffer.data(), static_cast<std::size_t>(in.gcount())});
  }
  if (in.bad()) throw IoError(concat("cannot read ", path.string(), ": ", std::strerror(errno)));
  return sum.hex();
}

}  // namespace moekit
