// Curves of a search's trials, a metric at a time: the latest trials that have it.

import {request} from "./api.js";
import {draw, fillTable, link, SERIES} from "./charts.js";

const LINES = SERIES.length;
const VALUES = 300;
const curves = new Map();
const ended = new Set();

const trials = () => JSON.parse(document.getElementById("trial-list").textContent);

export function setUpCurves() {
  document.getElementById("curves-metric").addEventListener("change", show);
  updateCurves().catch(() => {});
}

export async function updateCurves() {
  const latest = trials().filter(([, , state]) => state !== "queued").slice(-LINES);
  await Promise.all(latest.map(async ([id, , state]) => {
    if (ended.has(id)) return;
    const found = await request("GET", `/v1/trials/${id}/metrics?max_points=${VALUES}`);
    curves.set(id, new Map(found.curves.map(({name, points}) => [name, points.filter(({value}) => value !== null)])));
    if (state !== "running") ended.add(id);
  }));
  show();
}

function show() {
  const known = trials().filter(([id]) => curves.has(id)).slice(-LINES);
  const names = [...new Set(known.flatMap(([id]) => [...curves.get(id).keys()]))].sort();
  document.getElementById("curves").hidden = names.length === 0;
  if (names.length === 0) return;
  const select = document.getElementById("curves-metric");
  if ([...select.options].map((option) => option.value).join() !== names.join()) {
    const before = select.value;
    select.replaceChildren(...names.map((name) => new Option(name)));
    select.value = names.includes(before) ? before : names.find((name) => /loss|top1|accuracy/.test(name)) ?? names[0];
  }
  const metric = select.value;
  const lines = known.map(([id, number]) => ({id, number, points: curves.get(id).get(metric) ?? []})).filter(({points}) => points.length);
  draw(document.getElementById("curves-chart"), (colour) => figure(lines, metric, colour));
  fillTable(
    document.getElementById("curves-table"),
    ["Trial", "Values", "Least", "Greatest", "Last", "At step"],
    lines.map(({id, number, points}) => {
      const values = points.map(({value}) => value);
      const last = points.at(-1);
      return [link(`/trials/${id}`, `Trial ${number}`), String(points.length), short(Math.min(...values)), short(Math.max(...values)), short(last.value), String(last.step)];
    }),
  );
}

export function figure(lines, metric, colour) {
  return {
    data: lines.map(({number, points}, index) => ({
      type: "scatter",
      mode: points.length > 1 ? "lines" : "markers",
      name: `trial ${number}`,
      x: points.map(({step}) => step),
      y: points.map(({value}) => value),
      line: {color: colour(SERIES[index]), width: 2},
      marker: {color: colour(SERIES[index])},
    })),
    layout: {showlegend: lines.length > 1, xaxis: {title: {text: "Step"}}, yaxis: {title: {text: metric}}},
  };
}

export function short(value) {
  return String(Number(value.toPrecision(4)));
}
