// Charts with Plotly in the page's colours, drawn again when these change. Under the Content-Security-Policy of the pages
// Plotly adds no styles of its own (`plotly.css` has those that it needs), and only traces drawn as SVG are used: those on
// WebGL compile code.

const drawn = new Map();

function colours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

export const SERIES = ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6", "series-7", "series-8"];
export const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon"];

// `make(colour)` returns {data, layout}; colours are named as in style.css, without the dashes.
export function draw(element, make) {
  // Parts of the page are replaced while a search runs, their charts with them.
  for (const former of drawn.keys()) {
    if (!former.isConnected) {
      Plotly.purge(former);
      drawn.delete(former);
    }
  }
  drawn.set(element, make);
  const colour = colours();
  const {data, layout} = make(colour);
  const axis = {gridcolor: colour("line"), linecolor: colour("line"), zeroline: false, automargin: true, fixedrange: false};
  Plotly.react(
    element,
    data,
    {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: {family: "system-ui, sans-serif", size: 13, color: colour("ink")},
      margin: {l: 56, r: 12, t: 12, b: 48},
      hoverlabel: {bgcolor: colour("paper"), bordercolor: colour("line"), font: {color: colour("ink")}},
      legend: {orientation: "h", y: 1.02, yanchor: "bottom", x: 0},
      ...layout,
      xaxis: {...axis, ...layout.xaxis},
      yaxis: {...axis, ...layout.yaxis},
    },
    {displayModeBar: false, responsive: true, doubleClick: "reset"},
  );
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [element, make] of [...drawn]) if (element.isConnected) draw(element, make);
});

const SUFFIXES = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]];

// 5M, 300k, 2.5e6 and 1,000 as people write them; NaN for what is no positive number.
export function parseQuantity(text) {
  const match = /^(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([kmgbt]?)$/i.exec(text.replaceAll(/[,_]/g, "").trim());
  if (match === null) return NaN;
  const factor = {"": 1, k: 1e3, m: 1e6, g: 1e9, b: 1e9, t: 1e12}[match[2].toLowerCase()];
  const value = Number(match[1]) * factor;
  return value > 0 && Number.isFinite(value) ? value : NaN;
}

export function quantity(value) {
  for (const [suffix, factor] of SUFFIXES) if (Math.abs(value) >= 0.9995 * factor) return `${(value / factor).toPrecision(3)}${suffix}`;
  return String(Number(value.toPrecision(3)));
}

export function cost(value, metric) {
  if (value === null || value === undefined) return "–";
  if (metric.startsWith("latency")) return `${Number(value.toPrecision(3))} ms`;
  if (metric.endsWith("_bytes")) return `${quantity(value).replace(/([kMGT])$/, " $1")}B`;
  return quantity(value);
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(2)} %`;
}

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
