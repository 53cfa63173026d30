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
// Texts whose tokens are in their experts' colours.
function hue(expert) { return Math.round((expert * 137.508) % 360); }  // the golden angle: neighbours differ
function tint(expert) { return `hsl(${hue(expert)} 65% var(--tint))`; }
function element(tag, text, parent) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}
function told_of(token, route) {
  const parts = [];
  for (let i = 0; i < route.length; i += 2) parts.push(`expert ${route[i]}: ${route[i + 1].toFixed(2)}`);
  return `“${token}”  ${parts.join(", ") || "no expert"}`;
}
function draw_texts(box) {
  const spec = texts[Number(box.dataset.texts)];
  const layer = Number(box.querySelector("select").value);
  const only = box.dataset.only === undefined ? -1 : Number(box.dataset.only);
  const buttons = box.querySelector(".experts");
  buttons.replaceChildren();
  spec.cards[layer].forEach((card, expert) => {
    const button = element("button", `${expert}  ${Math.round(100 * card.share)} %`, buttons);
    button.type = "button";
    button.style.background = tint(expert);
    button.setAttribute("aria-pressed", String(expert === only));
    button.addEventListener("click", () => {
      if (expert === only) delete box.dataset.only; else box.dataset.only = String(expert);
      draw_texts(box);
    });
  });
  const told = box.querySelector(".told");
  told.textContent = "";
  const read = box.querySelector(".read");
  read.replaceChildren();
  spec.texts.forEach((text) => {
    const part = element("p", undefined, read);
    element("b", text.title, part);
    text.tokens.forEach((token, t) => {
      const route = text.routes[layer][t];
      const shown = element("span", token, part);
      shown.title = told_of(token, route);
      if (route.length > 0) shown.style.background = tint(route[0]);
      if (only >= 0 && route.every((value, i) => i % 2 === 1 || value !== only)) shown.className = "other";
      shown.addEventListener("click", () => { told.textContent = shown.title; });
    });
  });
  const cards = box.querySelector(".cards");
  cards.replaceChildren();
  spec.cards[layer].forEach((card, expert) => {
    const shown = element("div", undefined, cards);
    shown.className = "card";
    shown.style.borderColor = tint(expert);
    element("b", `Expert ${expert}`, shown);
    const groups = card.groups.map(([name, share]) => `${name} ${Math.round(100 * share)} %`);
    element("p", groups.join(", "), shown);
    element("p", card.tokens.map(([token, count]) => `“${token}” ${count}`).join("  "), shown);
    card.snippets.forEach(([before, token, after]) => {
      const quoted = element("q", before, shown);
      element("b", token, quoted);
      quoted.append(after);
    });
  });
}
document.querySelectorAll(".texts").forEach((box) => {
  box.querySelector("select").addEventListener("change", () => { delete box.dataset.only; draw_texts(box); });
  draw_texts(box);
});
