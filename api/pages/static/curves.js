// Curves of one metric, for the latest trials that have it. The page lists the metrics of each trial.

import {request, showProblem} from "./api.js";
import {draw, fillTable, link, SERIES} from "./charts.js";

const LINES = SERIES.length;
const VALUES = 300;
const GROWING = ["queued", "running"];
const ended = new Map();

export function setUpCurves() {
  document.getElementById("curves-metric").addEventListener("change", () => updateCurves().catch(showProblem));
  updateCurves().catch(() => {});
}

export async function updateCurves() {
  const trials = JSON.parse(document.getElementById("trial-list").textContent);
  const select = document.getElementById("curves-metric");
  offer(select, [...new Set(trials.flatMap(([, , , names]) => names))].sort());
  const metric = select.value;
  if (metric === "") return;
  const latest = trials.filter(([, , , names]) => names.includes(metric)).slice(-LINES);
  const lines = await Promise.all(latest.map(async ([id, number, state]) => ({id, number, points: await curve(id, metric, state)})));
  // Another metric was chosen: its curves are being fetched.
  if (select.value === metric) show(lines.filter(({points}) => points.length), metric);
}

function offer(select, names) {
  document.getElementById("curves").hidden = names.length === 0;
  if ([...select.options].map((option) => option.value).join() === names.join()) return;
  const before = select.value;
  select.replaceChildren(...names.map((name) => new Option(name)));
  if (names.length) select.value = [before, "loss"].find((name) => names.includes(name)) ?? names.find((name) => /loss|top1|accuracy/.test(name)) ?? names[0];
}

async function curve(id, metric, state) {
  const key = `${id} ${metric}`;
  if (ended.has(key)) return ended.get(key);
  const found = await request("GET", `/v1/trials/${id}/metrics?name=${encodeURIComponent(metric)}&max_points=${VALUES}`);
  const points = found.curves.flatMap((each) => each.points).filter(({value}) => value !== null);
  if (!GROWING.includes(state)) ended.set(key, points);
  return points;
}

function show(lines, metric) {
  draw(document.getElementById("curves-chart"), (color) => figure(lines, metric, color));
  fillTable(
    document.getElementById("curves-table"),
    ["Trial", "Values", "Minimum", "Maximum", "Last", "At step"],
    lines.map(({id, number, points}) => {
      const values = points.map(({value}) => value);
      const last = points.at(-1);
      return [link(`/trials/${id}`, `Trial ${number}`), String(points.length), short(Math.min(...values)), short(Math.max(...values)), short(last.value), String(last.step)];
    }),
  );
}

export function figure(lines, metric, color) {
  return {
    data: lines.map(({number, points}, index) => ({
      type: "scatter",
      mode: points.length > 1 ? "lines" : "markers",
      name: `trial ${number}`,
      x: points.map(({step}) => step),
      y: points.map(({value}) => value),
      line: {color: color(SERIES[index]), width: 2},
      marker: {color: color(SERIES[index])},
    })),
    layout: {showlegend: lines.length > 1, xaxis: {title: {text: "Step"}}, yaxis: {title: {text: metric}}},
  };
}

export function short(value) {
  return String(Number(value.toPrecision(4)));
}
