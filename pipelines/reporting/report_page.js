// Draws the figures that were computed: puts the page's colours in, and a figure in its element
// when it comes near the eye.
"use strict";
const read = id => JSON.parse(document.getElementById(id).textContent);
const byId = id => document.getElementById(id);
// The toolbar's own choice includes a button that uploads the chart.
const CONFIG = {responsive: true, displaylogo: false, plotlyServerURL: "", modeBarButtons:
  [["zoom2d", "pan2d", "resetScale2d", "toImage"]]};
const touch = matchMedia("(pointer: coarse)").matches;
const dark = matchMedia("(prefers-color-scheme: dark)");

function element(tag, text, attributes = {}) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// A copy of a value in which every name of a variable, such as --policy, is its colour.
function dressed(value, style = getComputedStyle(document.documentElement)) {
  if (typeof value === "string")
    return value.startsWith("--") ? style.getPropertyValue(value).trim() || value : value;
  if (Array.isArray(value)) {
    const plain = typeof value[0] === "number" || !value.length;
    return plain ? value : value.map(item => dressed(item, style));
  }
  if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, dressed(v, style)]));
}

// On a touch screen a finger on a chart must still scroll the page; a phone has room for less.
function fitted(layout) {
  layout.dragmode = touch ? false : layout.dragmode || "zoom";
  layout.modebar = {bgcolor: "rgba(0,0,0,0)", color: dressed("--quiet"),
                    activecolor: dressed("--ink")};
  if (innerWidth < 640)
    for (const name of Object.keys(layout))
      if (/^xaxis/.test(name) && layout[name].nticks) layout[name].nticks = 4;
  return layout;
}

const glyphOf = trace => {
  if (trace.fill === "tonexty") return "▒";
  const dash = trace.line && trace.line.dash;
  return dash === "dot" ? "┈" : dash === "dash" ? "╍" : "━";
};

const figures = read("figures");
const bars = new Set(["equity"]);
function drawFigure(name) {
  const figure = figures[name], layout = fitted(dressed(figure.layout));
  if (!bars.has(name)) layout.dragmode = false;
  Plotly.react(name, dressed(figure.data), layout, {...CONFIG, displayModeBar: bars.has(name) &&
    !touch && innerWidth >= 640 ? "hover" : false});
}

// A button for each line of the equity, pressed where it is drawn.
function accountButtons() {
  const groups = new Map();
  figures.equity.data.forEach((trace, index) => {
    if (trace.yaxis === "y2") return;
    const key = trace.legendgroup || trace.name;
    const group = groups.get(key) || {name: key === "seeds" ? "seeds" : trace.name, indices: []};
    group.indices.push(index);
    group.trace = trace;
    groups.set(key, group);
  });
  const order = [...groups.values()].sort((a, b) => (b.name === "policy") - (a.name === "policy"));
  for (const {name, indices, trace} of order) {
    const button = element("button", undefined, {type: "button"});
    const glyph = element("span", glyphOf(trace));
    glyph.style.color = `var(${trace.fill ? "--policy" : trace.line.color})`;
    button.append(glyph, name);
    button.setAttribute("aria-pressed", String(trace.visible !== false));
    button.onclick = () => {
      const shown = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(shown));
      for (const index of indices) figures.equity.data[index].visible = shown;
      Plotly.restyle("equity", {visible: shown}, indices);
    };
    byId("accounts").append(button);
  }
}

const drawn = new Set();
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries)
    if (entry.isIntersecting && !drawn.has(entry.target.id)) {
      drawn.add(entry.target.id);
      drawFigure(entry.target.id);
    }
}, {rootMargin: "600px"});

function redrawAll() {
  for (const name of drawn) drawFigure(name);
}
accountButtons();
for (const name of Object.keys(figures)) if (byId(name)) watcher.observe(byId(name));
dark.addEventListener("change", redrawAll);
addEventListener("beforeprint", () => {
  for (const name of Object.keys(figures)) if (byId(name)) { drawn.add(name); drawFigure(name); }
});
