// Sorts the tables and draws a curve of the chosen runs; the address holds what was chosen.
"use strict";
const byId = id => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const COLORS = ["#0b84d0", "#e0700a", "#0fa37a", "#c2559d", "#a98200", "#7d74d8", "#d64550", "#5d8a3a"];
const DASHES = ["solid", "dash", "dot", "dashdot"];
const FIRST = ["rollout/ep_rew_mean", "val/log_growth", "rollout/reward_mean"];
const boxes = [...document.querySelectorAll("[data-run]")];
// Runs by name: their places are others as soon as there is a new one.
const nameOf = box => box.closest("th").dataset.key;
const look = index => ({color: COLORS[index % COLORS.length],
                        dash: DASHES[Math.floor(index / COLORS.length) % DASHES.length]});

// Numbers before words, what is missing last whichever way it is sorted.
function compare(a, b, sign) {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  const [x, y] = [Number(a), Number(b)];
  if (a !== "" && b !== "" && !isNaN(x) && !isNaN(y)) return sign * (x - y);
  return sign * a.localeCompare(b, "en", {numeric: true});
}

function sort(table, index, order) {
  const sign = order === "descending" ? -1 : 1, body = table.tBodies[0];
  const rows = [...body.rows];
  rows.sort((a, b) => compare(a.cells[index].dataset.key, b.cells[index].dataset.key, sign));
  body.append(...rows);
  [...table.tHead.rows[0].cells].forEach((head, i) =>
    head.setAttribute("aria-sort", i === index ? order : "none"));
}

function remember() {
  const words = new URLSearchParams();
  words.set("curve", byId("curve").value);
  if (byId("scale").value !== "linear") words.set("scale", byId("scale").value);
  const drawn = boxes.filter(box => box.checked).map(nameOf);
  for (const name of drawn.length ? drawn : [""]) words.append("run", name);
  const head = document.querySelector("th[aria-sort$='cending']");
  if (head) words.set("sort", `${head.textContent}~${head.getAttribute("aria-sort")}`);
  history.replaceState(null, "", `#${words}`);
}

function draw() {
  const name = byId("curve").value, traces = [];
  for (const box of boxes) {
    const index = Number(box.dataset.run), run = data.runs[index];
    const points = run && run.points[name];
    if (!box.checked || !points) continue;
    traces.push({x: points[0], y: points[1], name: run.name, mode: points[0].length < 40 ?
      "lines+markers" : "lines", marker: {size: 4}, line: {width: 1.6, ...look(index)},
      hovertemplate: "%{y:.5g} at %{x:,}"});
  }
  const layout = {showlegend: false, hovermode: "x", margin: {l: 8, r: 8, t: 8, b: 8},
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode:
    matchMedia("(pointer: coarse)").matches ? false : "zoom",
    xaxis: {title: {text: "frames"}, automargin: true, zeroline: false, nticks: 6},
    yaxis: {automargin: true, zeroline: false, type: byId("scale").value}};
  byId("curves").hidden = !traces.length;
  if (traces.length) Plotly.react("curves", traces, layout, {responsive: true, displaylogo: false,
    plotlyServerURL: "", modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]]});
  const low = byId("scale").value !== "log" ? 0 :
    traces.reduce((sum, trace) => sum + trace.y.filter(y => y <= 0).length, 0);
  const lost = low ? ` On a log scale there is no place for ${low} points that are not above 0.` : "";
  byId("said").textContent = traces.length ? `${name}: ${traces.length} of ${boxes.length} runs.${lost}` :
    data.names.length ? "None of the chosen runs has this curve." : "No run has logged anything yet.";
}

function start() {
  document.querySelector(".controls").hidden = !data.names.length;
  byId("curve").append(...data.names.map(name => new Option(name)));
  const words = new URLSearchParams(location.hash.slice(1));
  const lines = name => data.runs.filter(run => (run.points[name] || [[]])[0].length > 1).length;
  const first = FIRST.filter(name => data.names.includes(name)).sort((a, b) => lines(b) - lines(a));
  const wanted = [words.get("curve"), ...first].find(name => data.names.includes(name));
  if (wanted) byId("curve").value = wanted;
  if (words.get("scale") === "log") byId("scale").value = "log";
  const chosen = words.has("run") ? new Set(words.getAll("run")) : null;
  for (const box of boxes) {
    if (chosen) box.checked = chosen.has(nameOf(box));
    const {color, dash} = look(Number(box.dataset.run));
    const style = {solid: "solid", dash: "dashed", dot: "dotted", dashdot: "double"}[dash];
    box.nextElementSibling.style.cssText = `height:0;border-top:3px ${style} ${color}`;
    box.onchange = () => { draw(); remember(); };
  }
  for (const table of document.querySelectorAll("table.sortable"))
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      head.firstElementChild.onclick = () => {
        sort(table, index, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
        remember();
      };
      const [title, order] = (words.get("sort") || "").split("~");
      if (table.querySelector("[data-run]") && head.textContent === title &&
          ["ascending", "descending"].includes(order)) sort(table, index, order);
    });
  for (const id of ["curve", "scale"]) byId(id).onchange = () => { draw(); remember(); };
  draw();
  document.documentElement.dataset.ready = "yes";
}
start();
