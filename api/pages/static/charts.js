// Plotly charts in the colors of the page, redrawn when these change. Plotly blocks the page for a second when it starts,
// so it loads when a chart becomes visible; a chart with a static picture waits for the pointer. Because of the
// Content-Security-Policy, `plotly.css` has Plotly's styles, and only SVG traces are used (WebGL traces compile code).

import {showProblem} from "./api.js";

const charts = new Map();
let loading = null;

export const SERIES = ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6", "series-7", "series-8"];
export const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon"];

// `make(color)` returns {data, layout}; colors are named as in style.css, without the dashes. `open` gets the
// `customdata` of a clicked point.
export function draw(element, make, open = null) {
  const chart = charts.get(element);
  if (chart !== undefined) {
    chart.make = make;
    if (chart.drawn) react(element, chart);
  } else {
    const fresh = {make, drawn: false};
    charts.set(element, fresh);
    if (window.Plotly) begin(element, fresh, open);
    else firstUse(element).then(plotly).then(() => begin(element, fresh, open)).catch(showProblem);
  }
}

function begin(element, chart, open) {
  // Parts of the page, with their charts, are replaced while a search runs.
  for (const [former, {drawn}] of charts) {
    if (former.isConnected) continue;
    if (drawn) Plotly.purge(former);
    charts.delete(former);
  }
  if (!element.isConnected) return;
  react(element, chart);
  chart.drawn = true;
  // The static picture in the page.
  element.querySelector(":scope > .picture")?.remove();
  if (open !== null) element.on("plotly_click", ({points}) => open(points[0].customdata));
  performance.mark(element.id);
}

function react(element, {make}) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const {data, layout} = make(color);
  const axis = ({title, ...given}) => ({
    gridcolor: color("line"),
    linecolor: color("line"),
    zeroline: false,
    automargin: true,
    title: {standoff: 8, font: {size: 13}, ...title},
    ...given,
  });
  Plotly.react(
    element,
    data,
    {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: {family: "system-ui, sans-serif", size: 13, color: color("ink")},
      margin: {l: 56, r: 12, t: 12, b: 56},
      hoverlabel: {bgcolor: color("paper"), bordercolor: color("line"), font: {color: color("ink")}},
      legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
      ...layout,
      xaxis: axis(layout.xaxis),
      yaxis: axis(layout.yaxis),
    },
    {displayModeBar: false, responsive: true, doubleClick: "reset"},
  );
}

// A cost on a logarithmic axis: few ticks, each a whole number with its suffix.
export function costAxis(label, metric) {
  return {title: {text: label}, type: "log", nticks: 3, tickformat: metric.startsWith("latency") ? "~g" : "~s"};
}

function firstUse(element) {
  return new Promise((done) => {
    if (element.querySelector(":scope > .picture")) {
      element.addEventListener("pointerenter", done, {once: true});
      return;
    }
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some(({isIntersecting}) => isIntersecting)) return;
      observer.disconnect();
      done();
    });
    observer.observe(element);
  });
}

function plotly() {
  loading ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL("plotly.min.js", import.meta.url).href;
    script.addEventListener("load", done);
    script.addEventListener("error", () => failed(new Error("The charts could not be loaded: reload the page.")));
    document.head.append(script);
  });
  return loading;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [element, chart] of charts) if (chart.drawn && element.isConnected) react(element, chart);
});

// A table row: a name, then numbers; or the column headers.
export function cells(row, values, scope = "row") {
  for (const [index, value] of values.entries()) {
    const cell = document.createElement(scope === "col" || index === 0 ? "th" : "td");
    if (cell.tagName === "TH") cell.scope = scope;
    if (index > 0) cell.className = "number";
    cell.append(value);
    row.append(cell);
  }
  return row;
}

export function link(path, text) {
  const anchor = document.createElement("a");
  anchor.href = path;
  anchor.textContent = text;
  return anchor;
}

export function fillTable(table, heads, rows) {
  const head = document.createElement("thead");
  cells(head.insertRow(), heads, "col");
  const body = document.createElement("tbody");
  for (const values of rows) cells(body.insertRow(), values);
  table.replaceChildren(head, body);
}
