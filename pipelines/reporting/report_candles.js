// Candles with entries, exits and brackets: what Plotly is told to draw of a stretch of time.
const MAX_CANDLES = 700, MAX_TRADES = 300, MAX_BRACKETS = 60, ROOM = 0.06, NEAR = 0.35;

const spanText = ms => ms >= DAY ? `${ms / DAY} d` : ms >= HOUR ? `${ms / HOUR} h` : `${ms / MINUTE} min`;
const grouped = n => n.toLocaleString("en-US");
const price = (value, bars) => value.toLocaleString("en-US",
  {maximumSignificantDigits: 7, maximumFractionDigits: bars.decimals});
// To the cent; what is under ten, as bitcoins are, to three digits.
const money = value => (value < 0 ? "−" : "+") + Math.abs(value).toLocaleString("en-US",
  Math.abs(value) < 10 ? {maximumSignificantDigits: 3} : {maximumFractionDigits: 2});
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
            tickformat: ",.10~r", hoverformat: `,.${bars0.decimals}f`},
    yaxis2: {...style, fixedrange: true, domain: [0, 0.15], nticks: 3, zeroline: true, separatethousands: true}}));
}
