#include "moekit/text/post_processors/template_processing.h"

namespace moekit::text {
namespace {

using Ids = std::vector<std::int32_t>;

class TemplateProcessing : public PostProcessor {
 public:
  TemplateProcessing(Ids before, Ids behind)
      : before_(std::move(before)), behind_(std::move(behind)) {}
  void apply(Ids& ids) const override {
    ids.insert(ids.begin(), before_.begin(), before_.end());
    ids.insert(ids.end(), behind_.begin(), behind_.end());
  }

 private:
  Ids before_;
  Ids behind_;
};

/// The ids of a special token, as `special_tokens` gives them.
Ids special_ids(const Json& special_tokens, const Json& name, const Place& place,
                const PostProcessorSite& site) {
  const Place list = site.place.key("special_tokens");
  if (!special_tokens.is_object()) refuse(list, "an object", special_tokens);
  if (!name.is_string()) refuse(place, "the name of a special token", name);
  const auto found = special_tokens.find(name.get_ref<const std::string&>());
  MOEKIT_CHECK_FORMAT(found != special_tokens.end(), place, ": ", in_short(name),
                      " is not among special_tokens");
  const Place at = list.key(name.get_ref<const std::string&>()).key("ids");
  if (!found->is_object() || !found->contains("ids") || !(*found)["ids"].is_array()) {
    refuse(at, "a list of ids", found->is_object() ? found->value("ids", Json()) : *found);
  }
  Ids ids;
  for (const Json& id : (*found)["ids"]) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= kMaxVocabulary ||
        site.vocabulary->content(id.get<std::int32_t>()) == nullptr) {
      refuse(at, "ids of tokens", id);
    }
    ids.push_back(id.get<std::int32_t>());
  }
  return ids;
}

}  // namespace

std::unique_ptr<PostProcessor> make_template_processing(const TemplateOptions& options,
                                                        const PostProcessorSite& site) {
  constexpr const char* kWanted =
      "{\"SpecialToken\": {\"id\": ...}} or {\"Sequence\": {\"id\": \"A\"}}";
  const Place place = site.place.key("single");
  if (!options.single.is_array()) refuse(place, "a list", options.single);
  Ids before;
  Ids behind;
  int texts = 0;
  for (std::size_t i = 0; i < options.single.size(); ++i) {
    const Json& item = options.single[i];
    if (!item.is_object() || item.size() != 1) refuse(place.item(i), kWanted, item);
    const std::string type = item.begin().key();
    const Json& value = item.begin().value();
    const Json id = value.is_object() ? value.value("id", Json()) : Json();
    if (type == "Sequence" && id == "A") {
      ++texts;
    } else if (type == "SpecialToken") {
      const Ids ids = special_ids(options.special_tokens, id, place.item(i).key(type), site);
      Ids& end = texts == 0 ? before : behind;
      end.insert(end.end(), ids.begin(), ids.end());
    } else {
      refuse(place.item(i), kWanted, value.is_object() ? id : value);
    }
  }
  MOEKIT_CHECK_FORMAT(texts == 1, place, ": sequence A must stand there once; it does ", texts,
                      " times");
  return std::make_unique<TemplateProcessing>(std::move(before), std::move(behind));
}

}  // namespace moekit::text
