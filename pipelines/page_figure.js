// Draws a figure in the colours of the reader's scheme; the page has the variables --ink, --quiet,
// --line and --paper, and DARK, which names what a light colour of a figure is in the dark.
"use strict";
const schemeIsDark = matchMedia("(prefers-color-scheme: dark)");
const pageColor = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// The toolbar's own choice includes a button that uploads the chart.
const FIGURE_CONFIG = {responsive: true, displaylogo: false, plotlyServerURL: "", modeBarButtons:
  [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]]};

// A copy of a value in which every colour is the scheme's; long lists of points are not looked at,
// nor is a text that is no colour: a line may have the name of one.
function recolored(value, key = "") {
  if (typeof value === "string")
    return schemeIsDark.matches && /color$/.test(key) && DARK[value] || value;
  if (Array.isArray(value))
    return typeof value[0] === "object" ? value.map(item => recolored(item)) : value;
  if (value === null || typeof value !== "object") return value;
  const items = Object.entries(value).map(([name, item]) => [name, recolored(item, name)]);
  return Object.fromEntries(items);
}

// Text, lines and paper as the page has them.
function dressed(layout) {
  const own = recolored(layout), line = pageColor("--line");
  for (const name of Object.keys(own))
    if (/^[xy]axis/.test(name))
      Object.assign(own[name], {gridcolor: line, linecolor: line, zerolinecolor: line});
  own.font = {...own.font, color: pageColor("--ink")};
  own.paper_bgcolor = own.plot_bgcolor = pageColor("--paper");
  own.modebar = {bgcolor: "rgba(0,0,0,0)", color: pageColor("--quiet"),
                 activecolor: pageColor("--ink")};
  own.hoverlabel = {bgcolor: pageColor("--paper"), bordercolor: pageColor("--quiet"),
                    font: {color: pageColor("--ink")}};
  // On a touch screen a finger on the chart must still scroll the page.
  if (matchMedia("(pointer: coarse)").matches) own.dragmode = false;
  return own;
}

function drawFigure(id, figure, config = {}) {
  const element = document.getElementById(id);
  return Plotly.react(element, recolored(figure.data), dressed(figure.layout),
                      {...FIGURE_CONFIG, ...config});
}
