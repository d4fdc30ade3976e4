// The page of a trial: every metric as a small chart with its table.

import {request} from "./api.js";
import {draw, fillTable} from "./charts.js";
import {figure, short} from "./curves.js";
import {every} from "./live.js";

const section = document.getElementById("curves");
const ROWS = 20;

async function update() {
  const found = await request("GET", `/v1/trials/${section.dataset.trial}/metrics?max_points=500`);
  const shown = found.curves.map(({name, points}) => [name, points.filter(({value}) => value !== null)]).filter(([, points]) => points.length);
  document.getElementById("no-curves").hidden = shown.length > 0;
  shown.forEach(([name, points], index) => show(name, points, index));
}

function show(name, points, index) {
  const id = `curve-${index}`;
  const block = document.getElementById(id) ?? add(id, name);
  draw(block.querySelector(".chart"), (color) => figure([{number: 0, points}], name, color));
  const every = Math.ceil(points.length / ROWS);
  const rows = points.filter((_, place) => place % every === 0 || place === points.length - 1);
  fillTable(block.querySelector("table"), ["Step", name], rows.map(({step, value}) => [String(step), short(value)]));
}

function add(id, name) {
  const block = document.createElement("div");
  block.id = id;
  block.className = "beside";
  const chart = document.createElement("div");
  chart.className = "chart";
  chart.setAttribute("role", "img");
  chart.setAttribute("aria-label", `${name} over the steps; the table holds the same.`);
  const region = document.createElement("div");
  region.className = "wide";
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", `Values of ${name}`);
  region.tabIndex = 0;
  region.append(document.createElement("table"));
  const tables = document.createElement("div");
  tables.className = "tables";
  tables.append(region);
  block.append(chart, tables);
  document.getElementById("curves-list").append(block);
  return block;
}

update().catch(() => {});
every(3, async () => {
  if (document.querySelector("#state[data-active]")) await update();
});
