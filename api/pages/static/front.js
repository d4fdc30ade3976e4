// The front: chart, budget, axis. The data is in the page (`front-data`), points as [id, key, cost, accuracy, accuracy on
// the report split], on the joint front of a dataset with the id and the name of the search.

import {showProblem} from "./api.js";
import {cells, costAxis, draw, link} from "./charts.js";
import {cost, parseQuantity, percent} from "./numbers.js";

const NAME = 24;
// Pixels per letter in the chart, and of the rest of a label's half.
const LETTER = 7.2;
const BESIDE = 75;
// Candidates off the front: dominated, or in violation of a constraint.
const OTHERS = ["dominated", "infeasible"];

export function startFront() {
  show();
  // Another axis may have been chosen before this module loaded.
  if (axis() !== document.getElementById("front").dataset.drawnOver) updateFront().catch(showProblem);
}

// Fetch the front over the chosen axis again.
export async function updateFront() {
  const chosen = axis();
  const {part} = document.getElementById("axis").dataset;
  const response = await fetch(`${part}?x=${encodeURIComponent(chosen)}`, {credentials: "same-origin"});
  if (!response.ok) throw new Error("The front could not be read: reload the page.");
  const text = await response.text();
  // Another axis was chosen: its response is on the way.
  if (axis() !== chosen) return;
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("front");
  const old = document.getElementById("front");
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...old.querySelectorAll("details[open][id]")].map((each) => each.id);
  // A budget has the unit of its axis.
  const budget = old.dataset.drawnOver === chosen ? old.querySelector("#budget").value : null;
  const dominated = old.querySelector("#dominated").checked;
  old.replaceWith(document.importNode(fresh, true));
  if (budget !== null) document.getElementById("budget").value = budget;
  document.getElementById("dominated").checked = dominated;
  show();
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({preventScroll: true});
}

function axis() {
  return document.getElementById("axis").value;
}

function show() {
  setUp();
  document.getElementById("axis").addEventListener("change", () => updateFront().catch(showProblem));
}

function setUp() {
  const section = document.getElementById("front");
  const data = JSON.parse(document.getElementById("front-data").textContent);
  const chart = document.getElementById("front-chart");
  const budget = document.getElementById("budget");
  const dominated = document.getElementById("dominated");
  const lines = traces(data);
  const view = viewOf(chart.querySelector(".plot"));

  const update = () => {
    const bound = parseQuantity(budget.value);
    const chosen = choose(data, bound);
    budget.setAttribute("aria-invalid", String(budget.value.trim() !== "" && Number.isNaN(bound)));
    mark(section, chosen);
    tell(data, bound, chosen);
    chart.classList.toggle("plain", !dominated.checked);
    drawOverlay(chart.querySelector(".plot"), bound, pointOf(data, chosen));
    // Nothing to draw without points.
    if (view === null) return;
    const make = (color) => {
      const letters = Math.min(NAME, Math.floor((chart.clientWidth / 2 - BESIDE) / LETTER));
      return figure(data, lines, view, color, {bound, chosen, letters, dominated: dominated.checked});
    };
    draw(chart, make, ([id]) => location.assign(`/points/${id}`));
  };
  budget.addEventListener("input", update);
  dominated.addEventListener("change", update);
  update();
  // After the next frame everything is on the screen.
  requestAnimationFrame(() => setTimeout(() => performance.mark("front")));
  for (const kind of OTHERS) {
    document.getElementById(`${kind}-points`)?.addEventListener("toggle", (event) => list(event.target, data[kind], data.x), {once: true});
  }
}

// The result of `POST .../front/select` for a bound on this cost.
function choose(data, bound) {
  let best = null;
  for (const [least, id] of data.best) if (Number.isNaN(bound) || least <= bound) best = id;
  return best;
}

function pointOf(data, id) {
  return data.front.find((each) => each[0] === id) ?? data.dominated.find((each) => each[0] === id);
}

// Same axes as the static picture, so that nothing moves when Plotly replaces it.
function viewOf(plot) {
  if (plot === null) return null;
  const {left, right, bottom, top} = plot.dataset;
  return {x: {range: [Number(left), Number(right)]}, y: {range: [Number(bottom), Number(top)]}};
}

// The budget and its selected point, in the static picture.
function drawOverlay(plot, bound, point) {
  if (plot === null) return;
  const {left, right, bottom, top} = plot.dataset;
  const across = (value) => `${(100 * (Math.log10(value) - left)) / (right - left)}%`;
  const [line, circle] = plot.querySelectorAll(".bound, .chosen");
  const inSight = Math.log10(bound) >= Number(left) && Math.log10(bound) <= Number(right);
  line.toggleAttribute("hidden", !inSight);
  if (inSight) for (const name of ["x1", "x2"]) line.setAttribute(name, across(bound));
  circle.toggleAttribute("hidden", point === undefined);
  if (point === undefined) return;
  circle.setAttribute("cx", across(point[2]));
  circle.setAttribute("cy", `${(100 * (top - point[3])) / (top - bottom)}%`);
}

function mark(section, chosen) {
  for (const row of section.querySelectorAll("tr[data-point]")) row.toggleAttribute("data-chosen", row.dataset.point === chosen);
}

function tell(data, bound, chosen) {
  const place = document.getElementById("chosen");
  if (!data.best.length) return place.replaceChildren();
  if (chosen === null) {
    return place.replaceChildren(`No point of the front is within ${cost(bound, data.x)}; the smallest is ${cost(data.best[0][0], data.x)}.`);
  }
  const point = pointOf(data, chosen);
  const anchor = link(`/points/${chosen}`, point[1]);
  anchor.id = "chosen-point";
  const under = Number.isNaN(bound) ? "The most accurate point" : `The most accurate point within ${cost(bound, data.x)}`;
  return place.replaceChildren(`${under}: `, anchor, `, ${percent(point[3])} at ${cost(point[2], data.x)}.`);
}

// The arrays are created once: Plotly redraws new arrays, and a budget changes only the line and the arrow. Thousands of
// points off the front are drawn as one path, much faster than as markers; their trace only serves the hover text.
function traces(data) {
  const trace = (points, name) => ({
    type: "scatter",
    name,
    x: points.map((each) => each[2]),
    y: points.map((each) => each[3]),
    customdata: points,
    text: points.map(([, key, x, y, , , search]) => `${key}<br>${percent(y)} at ${cost(x, data.x)}${search ? `<br>${plain(search)}` : ""}`),
    hovertemplate: `%{text}<extra>${name}</extra>`,
  });
  return {
    others: [trace(data.dominated, "dominated"), trace(data.infeasible, "misses a bound")],
    clouds: OTHERS.map((kind) => data[kind].map(([, , x, y]) => `M${x},${y}Z`).join("")),
    front: trace(data.front, "front"),
    baselines: trace(data.baselines, "baselines"),
  };
}

// Plotly renders a subset of HTML.
function plain(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function figure(data, {others, clouds, front, baselines}, view, color, shown) {
  return {
    data: [
      ...others.map((trace) => ({...trace, visible: shown.dominated && trace.x.length > 0, mode: "none"})),
      {...front, mode: "lines+markers", line: {color: color("series-1"), shape: "hv", width: 2}, marker: {color: color("series-1"), size: 9}},
      {...baselines, visible: data.baselines.length > 0, mode: "markers", marker: {color: color("series-2"), size: 10, symbol: "diamond-open", line: {width: 2}}},
    ],
    layout: {
      xaxis: {...costAxis(data.label, data.x), ...view.x},
      yaxis: {title: {text: "Accuracy, selection split"}, tickformat: "~%", ...view.y},
      shapes: shapes(color, clouds, data.majority, shown),
      annotations: annotations(data, view, color, shown),
      hovermode: "closest",
      showlegend: false,
    },
  };
}

// The points off the front, drawn as dots by line caps (style.css), and lines at the majority class's accuracy and at the
// budget.
function shapes(color, [cloud, missed], majority, {bound, dominated}) {
  const found = [];
  if (majority !== null) {
    const line = {color: color("faint"), width: 2, dash: "dot"};
    found.push({type: "line", layer: "below", xref: "paper", x0: 0, x1: 1, y0: majority, y1: majority, line});
  }
  if (cloud && dominated) found.push({type: "path", layer: "between", path: cloud, opacity: 0.45, line: {color: color("faint"), width: 6}});
  if (missed && dominated) found.push({type: "path", layer: "below", path: missed, opacity: 0.65, line: {color: color("bad"), width: 5}});
  if (!Number.isNaN(bound)) {
    const line = {color: color("series-3"), width: 2, dash: "dash"};
    found.push({type: "line", x0: bound, x1: bound, yref: "paper", y0: 0, y1: 1, line});
  }
  return found;
}

// An arrow at the selected point. (Circles with a size in pixels are not round on Plotly's logarithmic axes.)
function annotations(data, view, color, {chosen, letters}) {
  const point = pointOf(data, chosen);
  if (!point) return [];
  const [least, most] = view.x.range;
  const right = 2 * Math.log10(point[2]) > least + most;
  return [{
    x: Math.log10(point[2]),
    y: point[3],
    text: point[1].length > letters ? `${point[1].slice(0, letters)}…` : point[1],
    ax: right ? -24 : 24,
    ay: -28,
    xanchor: right ? "right" : "left",
    arrowcolor: color("series-3"),
    arrowhead: 2,
    arrowwidth: 2,
    standoff: 5,
    bgcolor: color("paper"),
    bordercolor: color("series-3"),
    borderpad: 3,
    font: {color: color("ink")},
  }];
}

function list(details, points, metric) {
  const body = details.querySelector("tbody");
  const rows = document.createDocumentFragment();
  for (const [id, key, x, selection, report, search, name] of points) {
    const row = cells(document.createElement("tr"), [link(`/points/${id}`, key), cost(x, metric), percent(selection), percent(report)]);
    if (search) row.insertCell(1).append(link(`/searches/${search}`, name));
    rows.append(row);
  }
  body.replaceChildren(rows);
}
