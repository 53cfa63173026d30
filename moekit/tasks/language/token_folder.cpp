#include "moekit/tasks/language/token_folder.h"

#include <algorithm>

#include "moekit/core/checksum.h"
#include "moekit/core/error.h"
#include "moekit/core/schema.h"

namespace moekit::language {
namespace fs = std::filesystem;
namespace {

constexpr const char* kState = "tokens.json";

/// What tells one folder's tokens from another's.
Json source_of(const DataConfig& config, const std::vector<data::TextDomain>& texts) {
  Sha256 sum;
  for (const auto& domain : texts) {
    sum.add(domain.name);
    for (const auto& document : domain.documents) {
      sum.add(std::to_string(document.size()) + ":");
      sum.add(document);
    }
  }
  return {{"texts", sum.hex()},
          {"tokenizer", config.tokenizer},
          {"vocabulary", config.vocabulary},
          {"validation_share", config.validation_share}};
}

Json read_state(const fs::path& folder) {
  static const Schema kSchema = Schema::object({{"source", Schema::map(Schema::any())},
                                                {"domains", Schema::list(Schema::text())},
                                                {"done", Schema::map(Schema::any())}});
  const fs::path file = folder / kState;
  Json state = read_json(file);
  kSchema.check(state, file.string());
  return state;
}

fs::path file_of(const fs::path& folder, const std::string& domain) {
  return folder / (domain + ".tokens");
}

/// The state of a folder that holds these texts, or of one that is begun.
Json claim_folder(const fs::path& folder, const Json& source,
                  const std::vector<data::TextDomain>& texts) {
  std::error_code error;
  if (fs::exists(folder / kState, error)) {
    Json state = read_state(folder);
    for (const auto& [key, value] : source.items()) {
      MOEKIT_CHECK(state["source"].value(key, Json()) == value, folder.string(),
                   " holds tokens of another ", key == "texts" ? "corpus" : "data." + key, ": ",
                   state["source"].value(key, Json()).dump(), "; wanted ", value.dump());
    }
    return state;
  }
  MOEKIT_CHECK(!fs::exists(folder, error) || fs::is_empty(folder, error), folder.string(),
               " holds something else; wanted a new folder, or one of the same tokens");
  create_folders(folder);
  Json names = Json::array();
  for (const auto& domain : texts) names.push_back(domain.name);
  return {{"source", source}, {"domains", names}, {"done", Json::object()}};
}

int64_t bytes_of(const data::TextDomain& domain) {
  int64_t bytes = 0;
  for (const auto& document : domain.documents) bytes += static_cast<int64_t>(document.size());
  return bytes;
}

/// @return whether it was written to its end
bool write_domain(const fs::path& file, const data::TextDomain& domain,
                  const text::Tokenizer& tokenizer, Json& facts,
                  const std::function<bool(size_t)>& progress) {
  text::TokenFileWriter writer(file, tokenizer, {domain.name});
  bool goes_on = true;
  encode_domain(domain, tokenizer, [&](const std::vector<int32_t>& ids, size_t bytes) {
    writer.append(ids);
    writer.end_document(0);
    goes_on = progress(bytes);
    return goes_on;
  });
  if (!goes_on) return false;
  facts = {{"documents", domain.documents.size()},
           {"tokens", writer.tokens()},
           {"bytes", bytes_of(domain)}};
  writer.commit();
  return true;
}

}  // namespace

Json write_token_folder(const DataConfig& config, const fs::path& folder,
                        const TokenProgress& progress) {
  const auto texts = read_texts(config);
  for (const auto& domain : texts) {
    MOEKIT_CHECK(
        domain.name.find('/') == std::string::npos && domain.name != "." && domain.name != "..",
        "data.corpus: domain ", in_quotes(domain.name), " cannot be a file's name");
  }
  Json state = claim_folder(folder, source_of(config, texts), texts);
  const fs::path tokenizer_file = folder / "tokenizer.json";
  std::error_code error;
  const bool learned = fs::exists(folder / kState, error) && fs::exists(tokenizer_file, error);
  const auto tokenizer =
      learned ? text::Tokenizer::load(tokenizer_file) : make_tokenizer(config, texts);
  if (!learned) {
    write_json(folder / kState, state);  // first: what has it is a folder that can be gone on with
    tokenizer.save(tokenizer_file);
  }
  int64_t all = 0;
  for (const auto& domain : texts) all += bytes_of(domain);
  int64_t done = 0;
  bool finished = true;
  for (const auto& domain : texts) {
    const auto file = file_of(folder, domain.name);
    if (state["done"].contains(domain.name) && fs::exists(file, error)) {
      done += bytes_of(domain);
      finished = progress(done, all);
    } else {
      Json facts;
      finished = write_domain(file, domain, tokenizer, facts, [&](size_t bytes) {
        done += static_cast<int64_t>(bytes);
        return progress(done, all);
      });
      if (finished) {
        state["done"][domain.name] = std::move(facts);
        write_json(folder / kState, state);
      }
    }
    if (!finished) break;
  }
  return {{"folder", folder.string()}, {"finished", finished}, {"domains", state["done"]}};
}

namespace {

/// Reads all ids once: one beyond the vocabulary is found now, and not after hours.
void check_ids(const TokenStore& tokens) {
  std::vector<int64_t> block(size_t{1} << 16);
  const auto all = tokens.size();
  for (int64_t begin = 0; begin < all; begin += static_cast<int64_t>(block.size())) {
    const auto count = std::min(all - begin, static_cast<int64_t>(block.size()));
    tokens.copy(begin, std::span(block).first(static_cast<size_t>(count)));
  }
}

}  // namespace

TextData read_token_folder(const fs::path& folder, double validation_share) {
  std::error_code error;
  MOEKIT_CHECK(fs::exists(folder / kState, error), "data.tokens: ", folder.string(),
               " is no folder of tokens; see moekit data tokenize");
  const Json state = read_state(folder);
  // The tokenizer has learned from the texts that are not judged; another share would judge some.
  const auto share = state["source"].value("validation_share", Json());
  MOEKIT_CHECK(share == Json(validation_share), "data.validation_share is ", validation_share,
               "; the tokens of ", folder.string(), " were cut for ", share.dump());
  TextData out{text::Tokenizer::load(folder / "tokenizer.json"), {}, {}, {}, {}};
  Sha256 sum;
  sum.add(out.tokenizer.document());
  for (const auto& name : state["domains"]) {
    const auto domain = name.get<std::string>();
    MOEKIT_CHECK(state["done"].contains(domain), "data.tokens: ", folder.string(),
                 " was not finished: ", domain, " is missing; run moekit data tokenize again");
    const auto path = file_of(folder, domain);
    const auto file = std::make_shared<const text::TokenFile>(path);
    MOEKIT_CHECK_FORMAT(file->tokenizer() == out.tokenizer.checksum(), path.string(),
                        ": is of another tokenizer than ", (folder / "tokenizer.json").string());
    sum.add(domain);
    sum.add(sha256_file(path));
    DomainTokens tokens;
    tokens.name = domain;
    for (int64_t d = 0; d < file->documents(); ++d) tokens.starts.push_back(file->begin_of(d));
    tokens.tokens = tokens_in_file(file);
    tokens.train = training_tokens(tokens.tokens->size(), validation_share);
    check_ids(*tokens.tokens);
    out.domains.push_back(std::move(tokens));
  }
  out.checksum = sum.hex();
  return out;
}

}  // namespace moekit::language
