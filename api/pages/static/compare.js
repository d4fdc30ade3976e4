// Several fronts in one chart.

import {draw, SERIES, SYMBOLS} from "./charts.js";

const block = document.getElementById("compare-data");
if (block !== null) {
  const {label, searches} = JSON.parse(block.textContent);
  const chart = document.getElementById("compare-chart");
  draw(chart, (colour) => ({
    data: searches.map(({name, front}, index) => ({
      type: "scatter",
      mode: "lines+markers",
      name,
      x: front.map((point) => point[2]),
      y: front.map((point) => point[3]),
      customdata: front,
      text: front.map((point) => point[1]),
      hovertemplate: "%{text}<br>%{y:.2%} at %{x:.4s}",
      line: {color: colour(SERIES[index]), shape: "hv", width: 2},
      marker: {color: colour(SERIES[index]), symbol: SYMBOLS[index], size: 9},
    })),
    layout: {
      xaxis: {title: {text: label}, type: "log", exponentformat: "SI", minexponent: 3},
      yaxis: {title: {text: "Accuracy, selection split"}, tickformat: ".0%"},
      hovermode: "closest",
      showlegend: true,
    },
  }));
  chart.on("plotly_click", ({points}) => location.assign(`/points/${points[0].customdata[0]}`));
}
