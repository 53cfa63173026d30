"use strict";
// Okabe and Ito's palette: told apart by colour-blind readers, on light and dark.
const palette = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#b8a800", "#888888"];
const dashes = [[], [6, 3], [2, 2], [8, 3, 2, 3]];  // beyond eight lines
const drawn = new Map();
function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
// Chart.js writes "7.000000E-6" for small numbers.
function tick_text(value, index, ticks) {
  const small = Math.max(...ticks.map((tick) => Math.abs(tick.value))) < 1e-3;
  return small ? String(Number(value.toPrecision(4)))
               : Chart.Ticks.formatters.numeric.apply(this, [value, index, ticks]);
}
function chart_of(spec) {
  const datasets = spec.series.map((line, s) => ({
    label: line.name,
    data: line.values,
    borderColor: palette[s % palette.length],
    backgroundColor: palette[s % palette.length] + (spec.stacked ? "90" : "ff"),
    borderDash: dashes[Math.floor(s / palette.length) % dashes.length],
    borderWidth: 2,
    pointRadius: spec.x.length > 1 ? 0 : 3,
    fill: spec.stacked ? (s === 0 ? "origin" : "-1") : false,
  }));
  return {
    type: "line",
    data: { labels: spec.x, datasets },
    options: {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "index", intersect: false },
      plugins: { legend: { labels: { boxWidth: 24, boxHeight: spec.stacked ? 8 : 0 } } },
      scales: {
        x: { title: { display: true, text: spec.xTitle }, ticks: { maxTicksLimit: 10, maxRotation: 0 } },
        y: {
          ticks: { callback: tick_text },
          title: { display: spec.yTitle !== "", text: spec.yTitle },
          stacked: spec.stacked,
          beginAtZero: true,
          max: spec.stacked ? 1 : undefined,
        },
      },
    },
  };
}
// A canvas inside folded details has no size: its chart waits until they are opened.
function draw() {
  Chart.defaults.color = css("--soft");
  Chart.defaults.borderColor = css("--line");
  charts.forEach((spec, index) => {
    const canvas = document.getElementById("chart" + index);
    if (drawn.has(index) || canvas.closest("details:not([open])")) return;
    drawn.set(index, new Chart(canvas, chart_of(spec)));
  });
  document.documentElement.dataset.charts = String(drawn.size);
}
function draw_anew() {
  drawn.forEach((chart) => chart.destroy());
  drawn.clear();
  draw();
}
function unfold() { document.querySelectorAll(".model").forEach((part) => { part.open = true; }); }
if (location.hash === "#all") unfold();
draw();
document.querySelectorAll("details").forEach((part) => part.addEventListener("toggle", draw));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw_anew);
addEventListener("beforeprint", () => { unfold(); draw(); });
