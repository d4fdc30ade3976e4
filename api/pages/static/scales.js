// Channels per block and scale: stacked bars and a table, from `scales-data`.

import {draw, fillTable, SERIES} from "./charts.js";

const SCALES = [1, 2, 4, 7];
let shown = "";

export function setUpScales() {
  const text = document.getElementById("scales-data").textContent;
  if (text === shown) return;
  shown = text;
  const networks = JSON.parse(text);
  document.getElementById("scales").hidden = networks.length === 0;
  if (networks.length === 0) return;
  const select = document.getElementById("scales-network");
  const before = select.value;
  select.replaceChildren(...networks.map(({key, role}, index) => new Option(role === "baseline" ? `${key} (baseline)` : key, String(index))));
  if (before && Number(before) < networks.length) select.value = before;
  select.onchange = () => show(networks[Number(select.value)]);
  show(networks[Number(select.value)]);
}

function show({blocks}) {
  const names = blocks.map((_, index) => String(index + 1));
  draw(document.getElementById("scales-chart"), (color) => ({
    data: SCALES.map((scale, index) => ({
      type: "bar",
      name: scale === 1 ? "full size" : `1/${scale}`,
      x: names,
      y: blocks.map((block) => block[index]),
      marker: {color: color(SERIES[index])},
    })),
    layout: {barmode: "stack", xaxis: {title: {text: "Block"}, type: "category"}, yaxis: {title: {text: "Channels"}}},
  }));
  const heads = ["Block", ...SCALES.map((scale) => (scale === 1 ? "Full size" : `1/${scale}`))];
  fillTable(document.getElementById("scales-table"), heads, blocks.map((block, index) => [String(index + 1), ...block.map(String)]));
}
