#include "moekit/report/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "moekit/core/version.h"
#include "moekit/report/assets.h"

namespace moekit::report {
namespace {

std::string table_html(const std::string& title, const Table& table) {
  std::string out = fmt::format(
      "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{}\"><table><thead><tr>",
      escape_html(title));
  for (const auto& cell : table.header) out += "<th>" + escape_html(cell) + "</th>";
  out += "</tr></thead><tbody>";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (const auto& cell : row) {
      // Numbers (and names) on one line, to the right; sentences wrap.
      const bool sentence = cell.size() > 40 && cell.find(' ') != std::string::npos;
      out += (sentence ? "<td class=\"text\">" : "<td>") + escape_html(cell) + "</td>";
    }
    out += "</tr>";
  }
  return out + "</tbody></table></div>";
}

Json chart_json(const Chart& chart) {
  Json series = Json::array();
  for (const auto& line : chart.series) {
    series.push_back({{"name", line.name}, {"values", line.values}});
  }
  return {{"title", chart.title}, {"xTitle", chart.x_title},  {"yTitle", chart.y_title},
          {"x", chart.x},         {"stacked", chart.stacked}, {"series", std::move(series)}};
}

std::string figure(const std::string& caption, const std::string& content) {
  return fmt::format("<figure><figcaption>{}</figcaption>{}</figure>", caption, content);
}

std::string chart_html(const Chart& chart, const std::string& caption, Json& charts) {
  const std::string canvas = fmt::format(
      "<div class=\"chart\"><canvas id=\"chart{}\" role=\"img\" aria-label=\"{}\"></canvas></div>",
      charts.size(), escape_html(chart.title));
  charts.push_back(chart_json(chart));
  return figure(caption, canvas);
}

std::string map_html(const HeatMap& map, const std::string& caption) {
  return figure(caption, "<div class=\"scroll\">" + heat_map_svg(map) + "</div>");
}

/// What the shades of a heat map mean.
std::string scale_html(const std::string& what) {
  return fmt::format(
      "<p class=\"scale\"><span>0 %</span><span class=\"ramp\"></span><span>100 % {}</span></p>",
      escape_html(what));
}

/// The models' pictures side by side.
std::string overview_html(const Page& page, Json& charts) {
  std::string maps;
  std::string lines;
  std::string scale;
  int widest = 0;
  for (const auto& model : page.models) {
    const std::string caption = fmt::format("<b>{}</b><span>{}</span>", escape_html(model.title),
                                            escape_html(model.subtitle));
    for (const auto& map : model.overview_maps) {
      maps += map_html(map, caption);
      widest = std::max(widest, heat_map_width(map));
      if (scale.empty()) scale = scale_html(map.value_title);
    }
    for (const auto& chart : model.overview_charts) lines += chart_html(chart, caption, charts);
  }
  std::string out;
  if (!maps.empty()) {
    out +=
        scale + fmt::format("<div class=\"maps\" style=\"--map: {}px\">", widest) + maps + "</div>";
  }
  if (!lines.empty()) out += "<div class=\"figures\">" + lines + "</div>";
  return out.empty() ? out : "<section class=\"overview\">" + out + "</section>";
}

std::string sheets_html(const std::vector<Sheet>& sheets) {
  if (sheets.empty()) return {};
  std::string out =
      "<h3>Test images each expert is given most, and its share of all</h3><div class=\"sheets\">";
  for (const auto& sheet : sheets) {
    out +=
        figure(escape_html(sheet.caption),
               sheet.data_uri.empty() ? "<p>none</p>"
                                      : fmt::format("<img class=\"sheet\" alt=\"{}\" src=\"{}\">",
                                                    escape_html(sheet.caption), sheet.data_uri));
  }
  return out + "</div>";
}

std::string confusion_html(const ModelSection& model) {
  if (model.confusion.empty()) return {};
  std::string out = "<h3>Confusion by expert</h3><p class=\"note\">" +
                    escape_html(model.confusion_text) + "</p><div class=\"maps\">";
  for (const auto& map : model.confusion) out += map_html(map, escape_html(map.title));
  return out + "</div>";
}

std::string model_html(const ModelSection& model, bool open, Json& charts, Json& texts) {
  std::string out =
      fmt::format("<details class=\"model\"{}><summary><b>{}</b><span>{}</span></summary>",
                  open ? " open" : "", escape_html(model.title), escape_html(model.subtitle));
  if (!model.place.empty()) out += "<p class=\"note\">" + escape_html(model.place) + "</p>";
  std::string figures;
  for (const auto& chart : model.charts) {
    figures += chart_html(chart, escape_html(chart.title), charts);
  }
  if (!figures.empty()) out += "<div class=\"figures\">" + figures + "</div>";
  std::string maps;
  for (const auto& map : model.heat_maps) maps += map_html(map, escape_html(map.title));
  if (!maps.empty()) out += "<div class=\"maps\">" + maps + "</div>";
  out += routed_texts_html(model.texts, texts);
  out += sheets_html(model.sheets) + confusion_html(model);
  if (!model.recipe.empty()) {
    out += fmt::format("<details><summary>Recipe, as resolved</summary><pre>{}</pre></details>",
                       escape_html(model.recipe));
  }
  return out + "</details>";
}

/// What was claimed and how it came out.
std::string claims_html(const Page& page) {
  if (page.claims.rows.empty()) return {};
  return "<section><h2>Claims</h2>" + interval_plot_html(page.claims) + "<p class=\"note\">" +
         escape_html(page.claims_text) + "</p></section>";
}

/// Every seed of every row.
std::string seeds_html(const Page& page) {
  if (page.seeds.empty()) return {};
  std::string out =
      "<section><h2>Seed by seed</h2><details class=\"model\"><summary><b>Every seed of every row"
      "</b></summary><p class=\"note\">A dot is a seed; the bar is the paper's value, the dashed "
      "one the reference's.</p>";
  for (const auto& plot : page.seeds) {
    out += fmt::format("<h3>{}</h3><div class=\"scroll\">{}</div>", escape_html(plot.title),
                       strip_plot_svg(plot));
  }
  return out + "</details></section>";
}

/// JSON inside <script>: neither "</script>" in a name may end it, nor "<!--<script>" begin
/// another.
std::string script_json(const Json& json) {
  constexpr std::string_view kEscaped = "\\u003c";
  std::string text = dump_text(json);
  for (std::size_t at = 0; (at = text.find('<', at)) != std::string::npos; at += kEscaped.size()) {
    text.replace(at, 1, kEscaped);
  }
  return text;
}

}  // namespace

std::string figure_text(const Summary& figure) {
  if (figure.count == 0) return {};
  if (figure.count == 1) return short_number(figure.mean);
  return short_number(figure.mean) + " ± " + short_number(figure.std_dev);
}

std::string short_number(double value) {
  const bool tiny = value != 0 && std::abs(value) < 5e-4;
  return tiny ? fmt::format("{:.1e}", value) : fmt::format("{:.4f}", value);
}

std::string render(const Page& page) {
  Json charts = Json::array();
  Json texts = Json::array();
  std::string body = overview_html(page, charts);
  std::string legend = page.legend;
  for (const auto& [title, table] : page.tables) {
    body += fmt::format("<section><h2>{}</h2>{}", escape_html(title), table_html(title, table));
    if (!legend.empty()) body += "<p class=\"note\">" + escape_html(legend) + "</p>";
    legend.clear();
    body += "</section>";
  }
  body += claims_html(page) + seeds_html(page);
  if (!page.models.empty()) {
    body += "<section><h2>Run by run</h2>";
    const bool open = page.models.size() == 1;
    for (const auto& model : page.models) body += model_html(model, open, charts, texts);
    body += "</section>";
  }
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">"
      "<title>{0}</title><style>{1}</style></head><body><main><h1>{0}</h1><p "
      "class=\"lead\">{2}</p>",
      escape_html(page.title), assets::page_css(), escape_html(page.lead));
  out += body;
  out += fmt::format("<footer>moekit {}</footer></main>", version());
  out += "<script>";
  out += assets::chart_js();
  out += "</script><script>const charts = " + script_json(charts) +
         ";\nconst texts = " + script_json(texts) + ";\n";
  out += assets::page_js();
  out += "</script></body></html>\n";
  return out;
}

}  // namespace moekit::report
