// Several fronts in one chart.

import {costAxis, draw, SERIES, SYMBOLS} from "./charts.js";
import {cost, percent} from "./numbers.js";

const block = document.getElementById("compare-data");
if (block !== null) {
  const {label, searches, x} = JSON.parse(block.textContent);
  const make = (color) => ({
    data: searches.map(({name, front}, index) => ({
      type: "scatter",
      mode: "lines+markers",
      name,
      x: front.map((point) => point[2]),
      y: front.map((point) => point[3]),
      customdata: front,
      text: front.map(([, key, value, accuracy]) => `${key}<br>${percent(accuracy)} at ${cost(value, x)}`),
      hovertemplate: "%{text}",
      line: {color: color(SERIES[index]), shape: "hv", width: 2},
      marker: {color: color(SERIES[index]), symbol: SYMBOLS[index], size: 9},
    })),
    layout: {
      xaxis: costAxis(label, x),
      yaxis: {title: {text: "Accuracy, selection split"}, tickformat: "~%"},
      hovermode: "closest",
      showlegend: true,
    },
  });
  draw(document.getElementById("compare-chart"), make, ([id]) => location.assign(`/points/${id}`));
}
