#pragma once

#include <string>

#include "moekit/report/page.h"
#include "moekit/study/reproduction.h"

namespace moekit::study {

/// Text tables of all rows, one block a figure, then the claims.
std::string to_text(const Study& study, const Outcome& outcome);
/// The same as Markdown, with the command and what made the runs, for committing beside the recipe.
/// A pure function of the study and the outcome's record.
std::string to_markdown(const Study& study, const Outcome& outcome);
Json to_json(const Study& study, const Outcome& outcome);

/// For a report page: the study's own figures, ours and the paper's in brackets, of the rows that
/// were run, in their order.
report::Table figure_table(const Study& study, const Outcome& outcome);
report::Table claim_table(const Outcome& outcome);
/// Every comparison of every claim: its effect and interval, by verdict.
report::IntervalPlot claim_plot(const Outcome& outcome);
/// One picture a figure: every row's seeds, with the paper's and the reference's value.
std::vector<report::StripPlot> seed_plots(const Study& study, const Outcome& outcome);
/// How a page calls a row: "original gate", or "original gate (mnist/original)" where another row
/// has the same label.
std::string page_label(const RowResult& row, const std::vector<RowResult>& rows);

}  // namespace moekit::study
