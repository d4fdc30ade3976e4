// The front: chart, budget, axis. The data is in the page (`front-data`), points as [id, key, cost, accuracy, accuracy on
// the report split].

import {cells, cost, draw, link, parseQuantity, percent} from "./charts.js";

const NAME = 24;

export function setUpFront() {
  const section = document.getElementById("front");
  const data = JSON.parse(document.getElementById("front-data").textContent);
  const chart = document.getElementById("front-chart");
  const budget = document.getElementById("budget");
  const dominated = document.getElementById("dominated");
  const lines = traces(data);

  const show = () => {
    const bound = parseQuantity(budget.value);
    const chosen = choose(data, bound);
    budget.setAttribute("aria-invalid", String(budget.value.trim() !== "" && Number.isNaN(bound)));
    mark(section, chosen);
    tell(data, bound, chosen);
    draw(chart, (colour) => figure(data, lines, colour, {bound, chosen, dominated: dominated.checked}));
  };
  budget.addEventListener("input", show);
  dominated.addEventListener("change", show);
  show();
  performance.mark("front");
  chart.on("plotly_click", ({points}) => location.assign(`/points/${points[0].customdata[0]}`));
  document.getElementById("dominated-points")?.addEventListener("toggle", (event) => list(event.target, data), {once: true});
}

// What `POST .../front/select` would answer for a bound on this cost.
function choose(data, bound) {
  let best = null;
  for (const [least, id] of data.best) if (Number.isNaN(bound) || least <= bound) best = id;
  return best;
}

function mark(section, chosen) {
  for (const row of section.querySelectorAll("tr[data-point]")) row.toggleAttribute("data-chosen", row.dataset.point === chosen);
}

function tell(data, bound, chosen) {
  const place = document.getElementById("chosen");
  if (!data.best.length) return place.replaceChildren();
  if (chosen === null) {
    return place.replaceChildren(`No point of the front has at most ${cost(bound, data.x)}; the least has ${cost(data.best[0][0], data.x)}.`);
  }
  const point = [...data.front, ...data.dominated].find((each) => each[0] === chosen);
  const anchor = link(`/points/${chosen}`, point[1]);
  anchor.id = "chosen-point";
  const under = Number.isNaN(bound) ? "The most accurate point" : `The most accurate point within ${cost(bound, data.x)}`;
  return place.replaceChildren(`${under}: `, anchor, `, ${percent(point[3])} at ${cost(point[2], data.x)}.`);
}

// The arrays are made once: Plotly draws again what is another array, and with a budget only the line and the arrow change.
function traces(data) {
  const trace = (points, name) => ({
    type: "scatter",
    name,
    x: points.map((each) => each[2]),
    y: points.map((each) => each[3]),
    customdata: points,
    text: points.map((each) => each[1]),
    hovertemplate: `%{text}<br>%{y:.2%} at %{x:.4s}<extra>${name}</extra>`,
  });
  return {dominated: trace(data.dominated, "dominated"), front: trace(data.front, "front"), baselines: trace(data.baselines, "baselines")};
}

function figure(data, {dominated, front, baselines}, colour, shown) {
  return {
    data: [
      {...dominated, visible: shown.dominated && data.dominated.length > 0, mode: "markers", marker: {color: colour("faint"), size: 6, opacity: 0.45}},
      {...front, mode: "lines+markers", line: {color: colour("series-1"), shape: "hv", width: 2}, marker: {color: colour("series-1"), size: 9}},
      {...baselines, visible: data.baselines.length > 0, mode: "markers", marker: {color: colour("series-2"), size: 10, symbol: "diamond-open", line: {width: 2}}},
    ],
    layout: {
      xaxis: {title: {text: data.label}, type: "log", exponentformat: "SI", minexponent: 3},
      yaxis: {title: {text: "Accuracy, selection split"}, tickformat: ".0%"},
      shapes: shapes(colour, shown),
      annotations: annotations(data, colour, shown),
      hovermode: "closest",
      showlegend: true,
    },
  };
}

// A line at the budget.
function shapes(colour, {bound}) {
  if (Number.isNaN(bound)) return [];
  return [{type: "line", x0: bound, x1: bound, yref: "paper", y0: 0, y1: 1, line: {color: colour("series-3"), width: 2, dash: "dash"}}];
}

// An arrow at the point that is chosen for it. (Circles of a size in pixels are not round on Plotly's logarithmic axes.)
function annotations(data, colour, {chosen}) {
  const every = [...data.front, ...data.dominated];
  const point = every.find((each) => each[0] === chosen);
  if (!point) return [];
  const costs = every.map((each) => each[2]);
  const right = point[2] ** 2 > Math.min(...costs) * Math.max(...costs);
  return [{
    x: Math.log10(point[2]),
    y: point[3],
    text: point[1].length > NAME ? `${point[1].slice(0, NAME)}…` : point[1],
    ax: right ? -24 : 24,
    ay: -28,
    xanchor: right ? "right" : "left",
    arrowcolor: colour("series-3"),
    arrowhead: 2,
    arrowwidth: 2,
    standoff: 5,
    bgcolor: colour("paper"),
    bordercolor: colour("series-3"),
    borderpad: 3,
    font: {color: colour("ink")},
  }];
}

function list(details, data) {
  const body = details.querySelector("tbody");
  const rows = document.createDocumentFragment();
  for (const [id, key, x, selection, report] of data.dominated) {
    const row = document.createElement("tr");
    rows.append(cells(row, [link(`/points/${id}`, key), cost(x, data.x), percent(selection), percent(report)]));
  }
  body.replaceChildren(rows);
}
