// What is looked at: whatever stretch of time it is, it is drawn anew from all bars and trades, in as
// few points as the eye can tell apart; and the buttons and links that lead there.
const series = read("series"), reasons = series.reasons, hidden = new Set();
const view = {seed: 0, from: 0, to: 0};
let bars0, seeds0, last = {};

const ends = () => [bars0.time[0], bars0.time[bars0.length - 1] + bars0.interval];

// The view within the bars, and not under ten of them wide.
function clamp(from, to) {
  const [first, end] = ends(), least = Math.min(10 * bars0.interval, end - first);
  let width = Math.min(Math.max(to - from, least), end - first);
  if (!Number.isFinite(width)) return [first, end];
  from = Math.min(Math.max((from + to - width) / 2, first), end - width);
  return [from, from + width];
}

function makeTraces() {
  const bars = bars0, trades = seeds0[view.seed], width = view.to - view.from;
  const pixels = byId("candles").clientWidth;
  const room = Math.max(150, Math.min(MAX_CANDLES, pixels / 2));
  const most = Math.max(80, Math.min(MAX_TRADES, Math.floor(pixels / 4)));
  const step = chooseStep(bars.interval, width / room);
  const begin = lowerBound(bars.time, Math.floor(view.from / step) * step);
  const end = lowerBound(bars.time, view.to);
  const merged = mergeBars(bars, trades.position, begin, end, step);
  const {inside, shown} = tradesIn(trades, begin, end, most);
  const size = shown.length <= 60 ? 9 : shown.length <= 150 ? 7 : 5;
  const brackets = shown.length <= MAX_BRACKETS ? shown : [];
  const candles = {type: "candlestick", name: "bars", ...merged,
    increasing: {line: {color: "--up", width: 1}, fillcolor: "--up-fill"},
    decreasing: {line: {color: "--down", width: 1}, fillcolor: "--down-fill"}};
  delete candles.position;
  const position = {type: "scatter", mode: "lines", name: "position", ...positionSteps(merged, step),
    yaxis: "y2", line: {color: "--policy", width: 1, shape: "hv"}, fill: "tozeroy",
    fillcolor: "--band", hovertemplate: "%{y:+,.6~g} units<extra></extra>"};
  const traces = [candles, tradeLines(bars, trades, shown),
    bracketLines(bars, trades, brackets, "stop", "stop", "--stop"),
    bracketLines(bars, trades, brackets, "target", "target", "--target"),
    ...entryMarks(bars, trades, shown, size), ...exitMarks(bars, trades, shown, size), position];
  const levels = traces[2].y.concat(traces[3].y).filter(level => level !== null);
  return {traces, merged, step, inside, shown, brackets, levels};
}

function say({step, inside, shown, brackets}) {
  const trades = seeds0[view.seed];
  const words = [`${utc(view.from)} to ${utc(view.to)} UTC.`,
    step > bars0.interval ? `A candle is ${spanText(step)}; zoom in for single bars.`
                          : `A candle is one bar of ${spanText(bars0.interval)}.`];
  if (!trades.total) words.push("The policy never traded.");
  else if (!inside.length) words.push("No trade here.");
  else if (shown.length < inside.length)
    words.push(`Drawn are the ${grouped(shown.length)} of ${grouped(inside.length)} trades that ` +
               "gained or lost most.");
  else words.push(`${grouped(shown.length)} ${shown.length === 1 ? "trade" : "trades"}.`);
  if (shown.length && !brackets.length) words.push("Stops and targets appear when fewer are in view.");
  byId("said").textContent = words.join(" ");
}

let layoutDrag = "zoom";
function drawCandles() {
  const started = performance.now(), made = makeTraces();
  const traces = made.traces.map(trace => ({...dressed(trace), visible: !hidden.has(trace.name)}));
  Plotly.react("candles", traces, candleLayout(made.merged, made.levels, made.step), {...CONFIG,
    modeBarButtons: [["zoom2d", "pan2d", "toImage"]], displayModeBar: touch || innerWidth < 640 ? false : "hover"});
  say(made);
  markButtons(made.traces);
  // For tests: how long it took, and how much was drawn.
  last = {ms: performance.now() - started, points: made.traces.map(t => t.x.length),
          trades: made.shown.length, inside: made.inside.length, step: made.step};
}

// Looks at a stretch of time, and puts it into the address.
function show(from, to, {link = true} = {}) {
  [view.from, view.to] = clamp(from, to);
  drawCandles();
  if (!link) return;
  const [first, end] = ends(), words = new URLSearchParams();
  if (seeds0.length > 1) words.set("seed", seeds0[view.seed].name);
  if (view.from > first || view.to < end) {
    words.set("from", new Date(view.from).toISOString().slice(0, 19));
    words.set("to", new Date(view.to).toISOString().slice(0, 19));
  }
  history.replaceState(null, "", `#${words}`);
}

// What the address says; what it does not say stays as at the beginning.
function fromAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const seed = seeds0.findIndex(s => s.name === words.get("seed"));
  view.seed = Math.max(seed, 0);
  byId("seed").value = String(view.seed);
  const [first, end] = ends();
  const time = (name, otherwise) => {
    const ms = Date.parse(`${words.get(name)}Z`);
    return Number.isNaN(ms) ? otherwise : ms;
  };
  show(time("from", first), time("to", end), {link: false});
}

const MARK_GLYPHS = {"triangle-up": "▲", "triangle-down": "▼", "x": "✖", "cross": "✚", "square": "■",
                     "star": "★", "star-diamond": "✦"};
// A button for each kind of mark that the seed has anywhere, pressed where it is drawn.
function markButtons(traces) {
  const trades = seeds0[view.seed], known = new Set(trades.reason), box = byId("marks");
  const wanted = traces.filter(t => {
    if (t.name.startsWith("exit: ")) return known.has(reasons.indexOf(t.name.slice(6)));
    return trades.length || t.name === "bars";
  });
  const key = wanted.map(t => t.name).join("|");
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren();
  for (const trace of wanted) {
    const button = element("button", undefined, {type: "button"});
    const line = trace.line || trace.decreasing && trace.decreasing.line;
    const glyph = element("span", trace.marker ? MARK_GLYPHS[trace.marker.symbol]
      : line.dash ? "┈" : trace.type === "candlestick" ? "┃" : "━");
    glyph.style.color = `var(${(trace.marker || line).color})`;
    button.append(glyph, trace.name);
    button.setAttribute("aria-pressed", String(!hidden.has(trace.name)));
    button.onclick = () => {
      hidden.has(trace.name) ? hidden.delete(trace.name) : hidden.add(trace.name);
      button.setAttribute("aria-pressed", String(!hidden.has(trace.name)));
      drawCandles();
    };
    box.append(button);
  }
}

// The trade whose entry comes next before or after the middle of the view, in the middle of it.
function goToTrade(direction) {
  const trades = seeds0[view.seed], middle = (view.from + view.to) / 2;
  const bar = lowerBound(bars0.time, middle);
  let n = lowerBound(trades.entry, bar + (direction > 0 ? 1 : 0));
  if (direction < 0) n--;
  if (n < 0 || n >= trades.length) return;
  const width = Math.min(view.to - view.from, 200 * bars0.interval);
  const at = bars0.time[trades.entry[n]];
  show(at - width / 2, at + width / 2);
}

function listen() {
  const seedPicker = byId("seed"), spanPicker = byId("span");
  seeds0.forEach((seed, i) => seedPicker.append(element("option", seed.name, {value: i})));
  seedPicker.hidden = seeds0.length < 2;
  seedPicker.onchange = () => { view.seed = Number(seedPicker.value); show(view.from, view.to); };
  spanPicker.append(element("option", "all of the time", {value: -1}));
  series.spans.forEach((span, i) => spanPicker.append(element("option", span.name, {value: i})));
  spanPicker.onchange = () => {
    const span = series.spans[Number(spanPicker.value)];
    span ? show(span.from, span.to + bars0.interval) : show(...ends());
  };
  if (!series.spans.length) spanPicker.replaceWith(Object.assign(element("button", "all"),
    {onclick: () => show(...ends()), type: "button"}));
  for (const button of byId("controls").querySelectorAll("button[data-days], button[data-move], " +
                                                         "button[data-zoom], button[data-trade]"))
    button.onclick = () => {
      const {days, move, zoom, trade} = button.dataset, width = view.to - view.from;
      const middle = (view.from + view.to) / 2;
      if (trade) return goToTrade(Number(trade));
      if (move) return show(view.from + move * width / 2, view.to + move * width / 2);
      const wanted = days ? days * DAY : zoom * width;
      show(middle - wanted / 2, middle + wanted / 2);
    };
  for (const link of document.querySelectorAll("a[data-from]"))
    link.onclick = event => {
      event.preventDefault();
      view.seed = Math.max(seeds0.findIndex(s => s.name === link.dataset.seed), 0);
      seedPicker.value = String(view.seed);
      show(Number(link.dataset.from), Number(link.dataset.to));
      byId("candles-title").scrollIntoView();
    };
  byId("controls").hidden = false;
  byId("candles").on("plotly_relayout", changed => {
    if (changed.dragmode) layoutDrag = changed.dragmode;
    if (changed["xaxis.autorange"]) return show(...ends());
    const range = changed["xaxis.range"] || [changed["xaxis.range[0]"], changed["xaxis.range[1]"]];
    if (range[0] === undefined) return;
    // Plotly gives texts without a zone, which are UTC here.
    const ms = value => typeof value === "number" ? value : Date.parse(`${value.replace(" ", "T")}Z`);
    show(ms(range[0]), ms(range[1]));
  });
  addEventListener("hashchange", fromAddress);
  addEventListener("resize", () => drawCandles());
  dark.addEventListener("change", () => drawCandles());
}

async function startCandles() {
  bars0 = decodeBars(await unpack(series.bars), series.bars.decimals, series.bars.interval_ms);
  seeds0 = [];
  for (const seed of series.seeds) seeds0.push(decodeTrades(await unpack(seed), seed, bars0));
  series.bars = series.seeds = null;
  fromAddress();
  listen();
  document.documentElement.dataset.ready = "true";
}
startCandles();
