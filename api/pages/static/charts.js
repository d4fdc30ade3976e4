// Charts with Plotly in the page's colours, drawn again when these change. Plotly takes a second to start, in which the page
// stands still, so it comes when a chart is seen; one that came with a picture of itself waits until somebody points at it.
// Under the Content-Security-Policy of the pages Plotly adds no styles of its own (`plotly.css` has those that it needs), and
// only traces drawn as SVG are used: those on WebGL compile code.

import {showProblem} from "./api.js";

const charts = new Map();
let loading = null;

export const SERIES = ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6", "series-7", "series-8"];
export const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon"];

// `make(colour)` returns {data, layout}; colours are named as in style.css, without the dashes. `open` is told the
// `customdata` of a point that is clicked.
export function draw(element, make, open = null) {
  const chart = charts.get(element);
  if (chart !== undefined) {
    chart.make = make;
    if (chart.drawn) react(element, chart);
  } else {
    const fresh = {make, drawn: false};
    charts.set(element, fresh);
    if (window.Plotly) begin(element, fresh, open);
    else wanted(element).then(plotly).then(() => begin(element, fresh, open)).catch(showProblem);
  }
}

function begin(element, chart, open) {
  // Parts of the page are replaced while a search runs, their charts with them.
  for (const [former, {drawn}] of charts) {
    if (former.isConnected) continue;
    if (drawn) Plotly.purge(former);
    charts.delete(former);
  }
  if (!element.isConnected) return;
  react(element, chart);
  chart.drawn = true;
  // The picture that the page came with.
  element.querySelector(":scope > .picture")?.remove();
  if (open !== null) element.on("plotly_click", ({points}) => open(points[0].customdata));
  performance.mark(element.id);
}

function react(element, {make}) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const {data, layout} = make(colour);
  const axis = ({title, ...given}) => ({
    gridcolor: colour("line"),
    linecolor: colour("line"),
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
      font: {family: "system-ui, sans-serif", size: 13, color: colour("ink")},
      margin: {l: 56, r: 12, t: 12, b: 56},
      hoverlabel: {bgcolor: colour("paper"), bordercolor: colour("line"), font: {color: colour("ink")}},
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

function wanted(element) {
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

// A row of a table: what it is about, then numbers. As a head its cells are those of columns.
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
