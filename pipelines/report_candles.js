// Candles with entries, exits and brackets: whatever stretch of time is looked at is drawn anew from
// all bars and trades, in as few points as the eye can tell apart.
const MAX_CANDLES = 700, MAX_TRADES = 300, MAX_BRACKETS = 60, ROOM = 0.06, NEAR = 0.35;
const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const STEPS = [1, 2, 3, 5, 10, 15, 20, 30].map(n => n * MINUTE)
  .concat([1, 2, 3, 4, 6, 8, 12].map(n => n * HOUR), [1, 2, 3, 7, 14, 28, 56, 112, 364].map(n => n * DAY));

// Base64 of gzip to typed arrays; the bytes of an array lie plane by plane, the lowest first.
async function unpack(packed) {
  const text = atob(packed.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer()), found = {};
  const types = {uint8: Uint8Array, int32: Int32Array, float32: Float32Array, float64: Float64Array};
  let at = 0;
  for (const [name, type, length] of packed.arrays) {
    const size = types[type].BYTES_PER_ELEMENT, own = new Uint8Array(size * length);
    for (let plane = 0; plane < size; plane++)
      for (let i = 0, from = at + plane * length; i < length; i++) own[i * size + plane] = data[from + i];
    found[name] = new types[type](own.buffer);
    at += size * length;
  }
  return found;
}

// Numbers that were made small and unsigned: 0, 1, 2, 3 is 0, -1, 1, -2.
const unzigzag = n => (n >>> 1) ^ -(n & 1);

function decodeBars(arrays, decimals, interval) {
  const length = arrays.open.length, scale = 10 ** decimals;
  const bars = {length, interval, decimals};
  for (const name of ["time", "open", "high", "low", "close"]) bars[name] = new Float64Array(length);
  let i = 0;
  for (let run = 0; run < arrays.count.length; run++)
    for (let k = 0; k < arrays.count[run]; k++) bars.time[i++] = arrays.begin_ms[run] + k * interval;
  let last = 0;
  for (i = 0; i < length; i++) {
    const open = last + unzigzag(arrays.open[i]), close = open + unzigzag(arrays.close[i]);
    bars.open[i] = open / scale;
    bars.close[i] = close / scale;
    bars.high[i] = (Math.max(open, close) + unzigzag(arrays.high[i])) / scale;
    bars.low[i] = (Math.min(open, close) - unzigzag(arrays.low[i])) / scale;
    last = close;
  }
  return bars;
}

function decodeTrades(arrays, seed, bars) {
  const length = arrays.entry.length, trades = {...arrays, length, name: seed.name, total: seed.total};
  trades.exit = new Int32Array(length);
  for (let i = 0, entry = 0; i < length; i++) {
    trades.entry[i] = entry += arrays.entry[i];
    trades.exit[i] = entry + arrays.held[i];
  }
  trades.position = new Float32Array(bars.length);
  for (let i = 0; i < length; i++) trades.position.fill(trades.units[i], trades.entry[i], trades.exit[i]);
  return trades;
}

// Index of the first number of a rising array that is not below `value`.
function lowerBound(array, value) {
  let low = 0, high = array.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (array[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

// Bars from index `first` to before `last`, merged so that each begins at a whole multiple of `step`;
// of the position at their closes the mean.
function mergeBars(bars, position, first, last, step) {
  const made = {x: [], open: [], high: [], low: [], close: [], position: []};
  let key = NaN, n = -1, count = 0;
  for (let i = first; i < last; i++) {
    const own = Math.floor(bars.time[i] / step);
    if (own !== key) {
      key = own; n++; count = 1;
      made.x.push(step > bars.interval ? own * step : bars.time[i]);
      made.open.push(bars.open[i]); made.high.push(bars.high[i]); made.low.push(bars.low[i]);
      made.close.push(bars.close[i]); made.position.push(position[i]);
    } else {
      made.high[n] = Math.max(made.high[n], bars.high[i]);
      made.low[n] = Math.min(made.low[n], bars.low[i]);
      made.close[n] = bars.close[i];
      made.position[n] += (position[i] - made.position[n]) / ++count;
    }
  }
  return made;
}

// Numbers of the trades that touch the bars from `first` to before `last`: all, and those to show.
function tradesIn(trades, first, last, most) {
  const inside = [];
  for (let i = 0; i < trades.length; i++)
    if (trades.entry[i] < last && trades.exit[i] >= first) inside.push(i);
  if (inside.length <= most) return {inside, shown: inside};
  const sizes = Float64Array.from(inside, i => Math.abs(trades.profit[i])).sort();
  const least = sizes[sizes.length - most];
  const shown = inside.filter(i => Math.abs(trades.profit[i]) >= least).slice(0, most);
  return {inside, shown};
}

const spanText = ms => ms >= DAY ? `${ms / DAY} d` : ms >= HOUR ? `${ms / HOUR} h` : `${ms / MINUTE} min`;
const grouped = n => n.toLocaleString("en-US");
const price = (value, bars) => value.toLocaleString("en-US",
  {maximumSignificantDigits: 7, maximumFractionDigits: bars.decimals});
const money = value => (value < 0 ? "−" : "+") + Math.abs(value).toLocaleString("en-US",
  {maximumFractionDigits: 2});
const utc = ms => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

const EXIT_LOOKS = {
  "stop": ["x", "--stop"], "take-profit": ["x", "--target"], "signal": ["x", "--signal"],
  "flip": ["cross", "--flip"], "liquidation": ["star-diamond", "--dead"],
  "ruin": ["star", "--dead"], "end": ["square", "--end"]};

// Marks of one kind, and what is said of each when it is pointed at.
function marks(name, x, y, text, symbol, color, size) {
  return {type: "scatter", mode: "markers", name, x, y, text, hovertemplate: "%{text}<extra></extra>",
          marker: {symbol, color, size, line: {color: "--paper", width: size > 6 ? 1 : 0.5}}};
}

function entryMarks(bars, trades, shown, size) {
  const kinds = [["long entry", 1, "triangle-up", "--long-entry"],
                 ["short entry", -1, "triangle-down", "--short-entry"]];
  return kinds.map(([name, side, symbol, color]) => {
    const mine = shown.filter(i => Math.sign(trades.units[i]) === side);
    const text = mine.map(i => `${name}, ${utc(bars.time[trades.entry[i]])}<br>` +
      `${price(Math.abs(trades.units[i]), {decimals: 8})} units at ${price(trades.entry_price[i], bars)}`);
    return marks(name, mine.map(i => bars.time[trades.entry[i]]), mine.map(i => trades.entry_price[i]),
                 text, symbol, color, size + 3);
  });
}

function exitMarks(bars, trades, shown, size) {
  return reasons.map((reason, number) => {
    const mine = shown.filter(i => trades.reason[i] === number);
    const [symbol, color] = EXIT_LOOKS[reason] || ["x", "--signal"];
    const text = mine.map(i => `exit by ${reason}, ${utc(bars.time[trades.exit[i]])}<br>at ` +
      `${price(trades.exit_price[i], bars)}, profit ${money(trades.profit[i])}`);
    return marks(`exit: ${reason}`, mine.map(i => bars.time[trades.exit[i]]),
                 mine.map(i => trades.exit_price[i]), text, symbol, color, size);
  });
}

// A line from each entry to its exit.
function tradeLines(bars, trades, shown) {
  const x = [], y = [];
  for (const i of shown) {
    x.push(bars.time[trades.entry[i]], bars.time[trades.exit[i]], null);
    y.push(trades.entry_price[i], trades.exit_price[i], null);
  }
  return {type: "scatter", mode: "lines", name: "trade", x, y, hoverinfo: "skip",
          line: {color: "--quiet", width: 1}};
}

// Steps of stop or target from where it is known to the exit.
function bracketLines(bars, trades, shown, name, column, color) {
  const x = [], y = [];
  for (const i of shown) {
    const from = trades.level[i], to = i + 1 < trades.length ? trades.level[i + 1] : trades.stop.length;
    let last = NaN;
    for (let k = from; k < to && x.length < 4990; k++) {
      last = trades[column][k];
      if (!Number.isNaN(last)) { x.push(bars.time[trades.level_bar[k]]); y.push(last); }
    }
    if (!Number.isNaN(last)) { x.push(bars.time[trades.exit[i]], null); y.push(last, null); }
  }
  return {type: "scatter", mode: "lines", name, x, y, hoverinfo: "skip",
          line: {color, width: 1.3, dash: "dot", shape: "hv"}};
}

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

// The shortest time of whole bars, a round one, that is at least `least`.
function chooseStep(interval, least) {
  const steps = [interval, ...STEPS.filter(s => s > interval && s % interval === 0)];
  return steps.find(s => s >= least) || steps[steps.length - 1];
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
  const position = {type: "scatter", mode: "lines", name: "position", x: merged.x, y: merged.position,
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

const panelTitle = (text, y) => ({text, x: 0, y, xref: "paper", yref: "paper", showarrow: false,
  xanchor: "left", yanchor: "bottom", font: {size: 12, color: "--quiet"}});

function candleLayout(merged, levels, step) {
  const style = {gridcolor: "--line", zerolinecolor: "--axis", linecolor: "--axis", automargin: true};
  let low = Infinity, high = -Infinity;
  for (const value of merged.low) if (value < low) low = value;
  for (const value of merged.high) if (value > high) high = value;
  // Brackets that are near are shown; one far away must not flatten the bars.
  const near = NEAR * (high - low), floor = low - near, ceiling = high + near;
  for (const level of levels) {
    if (level >= floor && level < low) low = level;
    if (level <= ceiling && level > high) high = level;
  }
  const room = ROOM * (high - low) || 0.001 * Math.abs(high) || 1;
  const phone = innerWidth < 640;
  return fitted(dressed({
    ...figures.costs.layout, height: byId("candles").clientHeight, shapes: [], hovermode: "closest",
    annotations: [
      panelTitle("Price", 1),
      panelTitle(step > bars0.interval ? "Position, units, mean of a candle" : "Position, units", 0.16)],
    margin: {l: 8, r: 8, t: 24, b: 8}, dragmode: layoutDrag,
    xaxis: {...style, type: "date", range: [view.from, view.to], rangeslider: {visible: false},
            nticks: phone ? 4 : 8, anchor: "y2", tickangle: 0, hoverformat: "%Y-%m-%d %H:%M"},
    yaxis: {...style, fixedrange: true, domain: [0.24, 1], range: [low - room, high + room], nticks: 8,
            tickformat: ",", hoverformat: `,.${bars0.decimals}f`},
    yaxis2: {...style, fixedrange: true, domain: [0, 0.15], nticks: 3, zeroline: true, separatethousands: true}}));
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
