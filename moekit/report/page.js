"use strict";
// Okabe and Ito's palette: told apart by colour-blind readers, on light and dark.
const palette = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b8a800", "#888888"];
const drawn = [];
function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
function draw() {
  drawn.splice(0).forEach((chart) => chart.destroy());
  Chart.defaults.color = css("--soft");
  Chart.defaults.borderColor = css("--line");
  charts.forEach((spec, index) => {
    const datasets = spec.series.map((line, s) => ({
      label: line.name,
      data: line.values,
      borderColor: palette[s % palette.length],
      backgroundColor: palette[s % palette.length] + (spec.stacked ? "90" : "ff"),
      borderWidth: 2,
      pointRadius: spec.x.length > 1 ? 0 : 3,
      fill: spec.stacked ? (s === 0 ? "origin" : "-1") : false,
    }));
    drawn.push(new Chart(document.getElementById("chart" + index), {
      type: "line",
      data: { labels: spec.x, datasets },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { title: { display: true, text: spec.xTitle } },
          y: { stacked: spec.stacked, beginAtZero: true, max: spec.stacked ? 1 : undefined },
        },
      },
    }));
  });
  document.documentElement.dataset.charts = String(drawn.length);
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
