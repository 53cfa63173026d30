#include "moekit/report/page.h"

#include <fmt/format.h>

#include "moekit/core/version.h"
#include "moekit/report/assets.h"

namespace moekit::report {
namespace {

std::string table_html(const Table& table) {
  std::string out = "<div class=\"scroll\"><table><thead><tr>";
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
  return {{"title", chart.title},
          {"xTitle", chart.x_title},
          {"x", chart.x},
          {"stacked", chart.stacked},
          {"series", series}};
}

std::string figure(const std::string& caption, const std::string& content) {
  return fmt::format("<figure><figcaption>{}</figcaption>{}</figure>", escape_html(caption),
                     content);
}

std::string model_html(const ModelSection& model, Json& charts) {
  std::string out = fmt::format("<section><h2>{}</h2><p>{}</p><div class=\"figures\">",
                                escape_html(model.title), escape_html(model.subtitle));
  for (const auto& map : model.heat_maps) {
    out += figure(map.title, "<div class=\"scroll\">" + heat_map_svg(map) + "</div>");
  }
  for (const auto& chart : model.charts) {
    out += figure(chart.title, fmt::format("<div class=\"chart\"><canvas id=\"chart{}\" "
                                           "role=\"img\" aria-label=\"{}\"></canvas></div>",
                                           charts.size(), escape_html(chart.title)));
    charts.push_back(chart_json(chart));
  }
  out += "</div>";
  if (!model.sheets.empty()) {
    out += "<h3>Test images each expert is given most</h3><div class=\"sheets\">";
    for (const auto& sheet : model.sheets) {
      out += figure(sheet.caption, sheet.data_uri.empty()
                                       ? "<p>none</p>"
                                       : fmt::format("<img class=\"sheet\" alt=\"{}\" src=\"{}\">",
                                                     escape_html(sheet.caption), sheet.data_uri));
    }
    out += "</div>";
  }
  if (!model.confusion.empty()) {
    out +=
        "<h3>Confusion by expert</h3><p>Rows are true classes, columns predicted ones, of the "
        "images each expert was given; point at a cell for its names.</p>"
        "<div class=\"sheets\">";
    for (const auto& map : model.confusion) out += figure(map.title, heat_map_svg(map));
    out += "</div>";
  }
  if (!model.recipe.empty()) {
    out += fmt::format("<details><summary>Recipe, as resolved</summary><pre>{}</pre></details>",
                       escape_html(model.recipe));
  }
  return out + "</section>";
}

/// JSON inside <script>: "</script>" in a name must not end it.
std::string script_json(const Json& json) {
  std::string text = json.dump();
  for (std::size_t at = 0; (at = text.find("</", at)) != std::string::npos; at += 3) {
    text.replace(at, 2, "<\\/");
  }
  return text;
}

}  // namespace

std::string render(const Page& page) {
  Json charts = Json::array();
  std::string body;
  for (const auto& [title, table] : page.tables) {
    body += fmt::format("<section><h2>{}</h2>{}</section>", escape_html(title), table_html(table));
  }
  for (const auto& model : page.models) body += model_html(model, charts);
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<meta name=\"color-scheme\" content=\"light dark\"><link rel=\"icon\" href=\"data:,\">"
      "<title>{0}</title><style>{1}</style></head><body><main><h1>{0}</h1><p>{2}</p>",
      escape_html(page.title), assets::page_css(), escape_html(page.introduction));
  out += body;
  out += fmt::format("<footer>moekit {}</footer></main>", version());
  out += "<script>";
  out += assets::chart_js();
  out += "</script><script>const charts = " + script_json(charts) + ";\n";
  out += assets::page_js();
  out += "</script></body></html>\n";
  return out;
}

}  // namespace moekit::report
