#pragma once

#include <string>
#include <vector>

#include "moekit/report/page.h"
#include "moekit/study/results.h"

namespace moekit::study {

/// Text table of all rows, one block a figure set, then the claims.
std::string to_text(const Study& study, const std::vector<RowResult>& rows,
                    const std::vector<ClaimResult>& claims);
/// The same as Markdown, for committing beside the recipe.
std::string to_markdown(const Study& study, const std::vector<RowResult>& rows,
                        const std::vector<ClaimResult>& claims, const std::string& command);
Json to_json(const Study& study, const std::vector<RowResult>& rows,
             const std::vector<ClaimResult>& claims);

/// For a report page: the study's own figures, ours and the paper's in brackets, of the rows that
/// were run, in their order.
report::Table figure_table(const Study& study, const std::vector<RowResult>& rows);
report::Table claim_table(const std::vector<ClaimResult>& claims);
/// How a page calls a row: "original gate", or "original gate (mnist/original)" where another row
/// has the same label.
std::string page_label(const RowResult& row, const std::vector<RowResult>& rows);

}  // namespace moekit::study
