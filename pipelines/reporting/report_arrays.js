// Bars and trades from the page's arrays, and what of them a stretch of time shows.
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

// The position at merged bars, as steps: it ends with the last bar before a hole.
function positionSteps(merged, step) {
  const x = [], y = [];
  merged.x.forEach((time, n) => {
    if (n && time > merged.x[n - 1] + step) { x.push(merged.x[n - 1] + step); y.push(0); }
    x.push(time); y.push(merged.position[n]);
  });
  return {x, y};
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

// The shortest time of whole bars, a round one, that is at least `least`.
function chooseStep(interval, least) {
  const steps = [interval, ...STEPS.filter(s => s > interval && s % interval === 0)];
  return steps.find(s => s >= least) || steps[steps.length - 1];
}
