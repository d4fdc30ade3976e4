// Parsing and formatting of numbers.

const SUFFIXES = [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]];

// Parse 5M, 300k, 2.5e6 or 1,000; NaN for anything that is not a positive number.
export function parseQuantity(text) {
  const match = /^(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([kmgbt]?)$/i.exec(text.replaceAll(/[,_]/g, "").trim());
  if (match === null) return NaN;
  const factor = {"": 1, k: 1e3, m: 1e6, g: 1e9, b: 1e9, t: 1e12}[match[2].toLowerCase()];
  const value = Number(match[1]) * factor;
  return value > 0 && Number.isFinite(value) ? value : NaN;
}

export function quantity(value) {
  for (const [suffix, factor] of SUFFIXES) if (Math.abs(value) >= 0.9995 * factor) return `${(value / factor).toPrecision(3)}${suffix}`;
  return String(Number(value.toPrecision(3)));
}

export function cost(value, metric) {
  if (value === null || value === undefined) return "–";
  if (metric.startsWith("latency") || metric.endsWith("_ms")) return `${Number(value.toPrecision(3))} ms`;
  if (metric.endsWith("_bytes")) return `${quantity(value).replace(/([kMGT])$/, " $1")}B`;
  return quantity(value);
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(2)} %`;
}
