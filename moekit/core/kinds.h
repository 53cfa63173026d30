#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "moekit/core/config.h"

/// Tables of kinds. A kind (of router, expert, loss, optimizer, data set, ...) has a name, a struct
/// of options with `visit`, a check (beyond the fields' own rules) and a `make`; the table of an
/// interface lists its kinds in one line each:
///
///     const std::vector<RouterKind>& RouterKinds::rows() {
///       static const std::vector<RouterKind> kRows = {
///           kind<&make_linear_router, &check_linear_router>("linear", "one linear map"),
///           ...
///
/// A recipe's section is bound to the options of the kind it names: a key that this kind does not
/// have is refused.
namespace moekit {

/// Options of some kind, for whoever does not know which.
class AnyOptions {
 public:
  virtual ~AnyOptions() = default;
  virtual std::unique_ptr<AnyOptions> clone() const = 0;
  virtual void bind(detail::TableBinder& binder) = 0;
  virtual void write(detail::TableWriter& writer) const = 0;
  virtual void list(detail::KeyLister& lister) const = 0;
};

template <Visitable Options>
class OptionsOf final : public AnyOptions {
 public:
  Options value{};

  std::unique_ptr<AnyOptions> clone() const override { return std::make_unique<OptionsOf>(*this); }
  void bind(detail::TableBinder& binder) override { value.visit(binder); }
  // visit() is written once, for reading and writing: it takes the struct as mutable.
  void write(detail::TableWriter& writer) const override {
    const_cast<Options&>(value).visit(writer);
  }
  void list(detail::KeyLister& lister) const override { const_cast<Options&>(value).visit(lister); }
};

/// One line a key, as `config_keys` gives them. @param prefix  of all paths, as "data.options"
inline std::vector<ConfigKey> option_keys(const AnyOptions& options, const std::string& prefix) {
  std::vector<ConfigKey> keys;
  detail::KeyLister lister{keys, prefix};
  options.list(lister);
  return keys;
}

/// Of a kind that has nothing to choose.
struct NoOptions {
  template <typename Field>
  void visit(Field&&) {}
};

/// One row of a table. @tparam Site  what the kind is made for: sizes, a seed, folders
template <typename Product, typename Site>
struct Kind {
  std::string_view name;
  std::string_view doc;
  std::unique_ptr<AnyOptions> (*options)();  ///< the kind's defaults
  /// Refuses options that are impossible for the site. @param where  path of the section, for
  /// messages. @throws ArgumentError
  void (*check)(const AnyOptions& options, const Site& site, const std::string& where);
  Product (*make)(const AnyOptions& options, const Site& site);
};

namespace detail {

template <typename Function>
struct MakeSignature;
template <typename P, typename O, typename S>
struct MakeSignature<P (*)(const O&, const S&)> {
  using Product = P;
  using Options = O;
  using Site = S;
};

template <typename Options>
const Options& options_as(const AnyOptions& options) {
  return dynamic_cast<const OptionsOf<Options>&>(options).value;
}

}  // namespace detail

/// The row of a kind: `kMake` is `Product make(const Options&, const Site&)`, `kCheck` a function
/// `void check(const Options&, const Site&, const std::string& where)`, or absent; the rules of the
/// options' fields are checked first.
/// @tparam TableSite  the table's site, where that is derived from the one the functions take
template <auto kMake, auto kCheck = nullptr, typename TableSite = void>
auto kind(std::string_view name, std::string_view doc) {
  using Signature = detail::MakeSignature<decltype(kMake)>;
  using Options = typename Signature::Options;
  using Site = std::conditional_t<std::is_void_v<TableSite>, typename Signature::Site, TableSite>;
  Kind<typename Signature::Product, Site> row{};
  row.name = name;
  row.doc = doc;
  row.options = []() -> std::unique_ptr<AnyOptions> {
    return std::make_unique<OptionsOf<Options>>();
  };
  row.check = [](const AnyOptions& options, const Site& site, const std::string& where) {
    check_values(detail::options_as<Options>(options), where);
    // By type: under -fsanitize=null GCC 12 does not take a function's address for a constant.
    if constexpr (!std::is_null_pointer_v<std::remove_const_t<decltype(kCheck)>>) {
      kCheck(detail::options_as<Options>(options), site, where);
    }
  };
  row.make = [](const AnyOptions& options, const Site& site) {
    return kMake(detail::options_as<Options>(options), site);
  };
  return row;
}

/// "linear, attentive or oracle"
template <typename Rows>
std::string kind_names(const Rows& rows) {
  std::vector<std::string_view> names;
  for (const auto& row : rows) names.push_back(row.name);
  return join_choices(names);
}

/// The row of this name. @throws ArgumentError naming `what` and the kinds there are.
template <typename Rows>
const auto& find_kind(const Rows& rows, std::string_view name, std::string_view what) {
  for (const auto& row : rows) {
    if (row.name == name) return row;
  }
  throw ArgumentError(concat("unknown ", what, " \"", name, "\"; known: ", kind_names(rows)));
}

/// One kind of a table, with its options. As a field of a visitable struct it is a key that holds
/// the kind's name; the kind's own keys stand beside that key, or where the table has a
/// `kOptionsKey`, in a table of this name.
/// @tparam Table  { rows(), kDefault, kWhat, kOptionsKey }
template <typename Table>
class Choice {
 public:
  using KindTable = Table;
  Choice() { select(Table::kDefault); }
  Choice(std::string_view name) { select(name); }  // NOLINT(google-explicit-constructor)
  Choice(const Choice& other) : row_(other.row_), options_(other.options_->clone()) {}
  Choice(Choice&&) noexcept = default;
  Choice& operator=(const Choice& other) {
    Choice copy(other);
    return *this = std::move(copy);
  }
  Choice& operator=(Choice&&) noexcept = default;
  ~Choice() = default;

  /// Takes another kind, with its defaults. @throws ArgumentError naming the kinds there are.
  void select(std::string_view name) {
    row_ = &find_kind(Table::rows(), name, Table::kWhat);
    options_ = row_->options();
  }
  std::string_view name() const { return row_->name; }
  bool is(std::string_view name) const { return row_->name == name; }
  const auto& row() const { return *row_; }

  /// The options, where they are of this type; null otherwise.
  template <typename Options>
  Options* get_if() {
    auto* found = dynamic_cast<OptionsOf<Options>*>(options_.get());
    return found == nullptr ? nullptr : &found->value;
  }
  template <typename Options>
  const Options* get_if() const {
    return const_cast<Choice*>(this)->template get_if<Options>();
  }
  /// @throws ArgumentError when the kind has other options.
  template <typename Options>
  Options& as() {
    auto* found = get_if<Options>();
    MOEKIT_CHECK(found != nullptr, Table::kWhat, " \"", name(), "\" has other options");
    return *found;
  }
  template <typename Options>
  const Options& as() const {
    return const_cast<Choice*>(this)->template as<Options>();
  }

  template <typename Site>
  void check(const Site& site, const std::string& where) const {
    row_->check(*options_, site, where);
  }
  template <typename Site>
  auto make(const Site& site) const {
    return row_->make(*options_, site);
  }

  // What the visitors of core/config.h call.
  void bind(detail::TableBinder& binder, const char* key) {
    binder.known.emplace_back(key);
    if (const auto found = binder.table.find(key); found != binder.table.end()) {
      const std::string wanted = found->is_string() ? found->template get<std::string>() : "";
      bool known = false;
      for (const auto& row : Table::rows()) known = known || row.name == wanted;
      if (!known) {
        detail::refuse_kind(binder.tree, binder.path_of(key), Table::kWhat,
                            kind_names(Table::rows()), *found);
      }
      if (wanted != row_->name) select(wanted);
    }
    const std::string kind = concat(key, " = \"", row_->name, "\"");
    if (std::string_view(Table::kOptionsKey).empty()) {
      binder.kind += (binder.kind.empty() ? "" : ", ") + kind;
      options_->bind(binder);
    } else {
      binder.bind_table(Table::kOptionsKey, kind,
                        [&](detail::TableBinder& inner) { options_->bind(inner); });
    }
  }
  void write(detail::TableWriter& writer, const char* key) const {
    writer.out[key] = std::string(row_->name);
    if (std::string_view(Table::kOptionsKey).empty()) return options_->write(writer);
    Json options = Json::object();
    detail::TableWriter inner{options};
    options_->write(inner);
    writer.out[Table::kOptionsKey] = std::move(options);
  }
  void list(detail::KeyLister& lister, const char* key, const char* doc) const {
    const auto& rows = Table::rows();
    std::vector<std::pair<std::string, std::string>> kinds;
    for (const auto& row : rows) kinds.emplace_back(row.name, row.doc);
    lister.add_choice(key, row_->name, doc, {}, std::move(kinds));
    for (const auto& row : rows) {
      const auto options = row.name == row_->name ? options_->clone() : row.options();
      lister.add_kind(key, Table::kOptionsKey, row.name, rows.size(),
                      [&](detail::KeyLister& inner) { options->list(inner); });
    }
  }

 private:
  const typename Table::Row* row_ = nullptr;
  std::unique_ptr<AnyOptions> options_;
};

/// A section of a recipe that is one kind with its options: `[model.router] kind = "linear"`.
template <typename Table>
struct KindSection {
  Choice<Table> choice;

  Choice<Table>* operator->() { return &choice; }
  const Choice<Table>* operator->() const { return &choice; }
  template <typename Field>
  void visit(Field&& field) {
    field("kind", choice, Table::kDoc);
  }
};

/// A section that binds the options of every row of a table: `[loss] balance = 0.01`.
template <typename Table>
class OptionSet {
 public:
  OptionSet() {
    for (const auto& row : Table::rows()) options_.push_back(row.options());
  }
  OptionSet(const OptionSet& other) {
    for (const auto& options : other.options_) options_.push_back(options->clone());
  }
  OptionSet(OptionSet&&) noexcept = default;
  OptionSet& operator=(const OptionSet& other) {
    OptionSet copy(other);
    return *this = std::move(copy);
  }
  OptionSet& operator=(OptionSet&&) noexcept = default;
  ~OptionSet() = default;

  template <typename Options>
  Options& get() {
    for (auto& options : options_) {
      if (auto* found = dynamic_cast<OptionsOf<Options>*>(options.get())) return found->value;
    }
    throw ArgumentError(concat(Table::kWhat, ": no row has these options"));
  }
  template <typename Options>
  const Options& get() const {
    return const_cast<OptionSet*>(this)->template get<Options>();
  }

  template <typename Site>
  void check(const Site& site, const std::string& where) const {
    const auto& rows = Table::rows();
    for (size_t i = 0; i < rows.size(); ++i) rows[i].check(*options_[i], site, where);
  }
  /// What each row makes of its options, in the table's order.
  template <typename Site>
  auto make(const Site& site) const {
    const auto& rows = Table::rows();
    std::vector<decltype(rows[0].make(*options_[0], site))> made;
    for (size_t i = 0; i < rows.size(); ++i) made.push_back(rows[i].make(*options_[i], site));
    return made;
  }

  void visit(detail::TableBinder& binder) {
    for (auto& options : options_) options->bind(binder);
  }
  void visit(detail::TableWriter& writer) {
    for (auto& options : options_) options->write(writer);
  }
  void visit(detail::KeyLister& lister) {
    for (auto& options : options_) options->list(lister);
  }
  void visit(AnyField) {}                     // a struct that names its fields
  void visit(const detail::ValueChecker&) {}  // see check()

 private:
  std::vector<std::unique_ptr<AnyOptions>> options_;
};

}  // namespace moekit
