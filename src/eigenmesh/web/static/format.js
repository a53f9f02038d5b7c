// Numbers and elements, as the whole page writes them.

const NONE = "–";

const short = (x, digits = 3) =>
  Math.abs(x) < 1e-9 ? "0" : Math.abs(x) >= 100 ? Math.round(x).toLocaleString("en") : String(Number(x.toPrecision(digits)));

/** Seconds to words: 12.3 ms, 1.2 s. */
export const seconds = (x) =>
  x == null ? NONE : x < 1e-3 && x > 0 ? `${short(x * 1e6, 2)} µs` : x < 1 ? `${short(x * 1e3)} ms` : `${short(x)} s`;

export const rate = (x) => (x == null ? NONE : x < 0.05 ? "0/s" : x >= 10_000 ? `${short(x / 1000)}k/s` : `${short(x)}/s`);

export const count = (x) => (x == null ? NONE : x < 0.05 ? "0" : short(x));

export const percent = (x, digits = 1) => (x == null ? NONE : `${(100 * x).toFixed(digits)}%`);

export const ago = (s) =>
  s < 90 ? `${Math.max(0, Math.round(s))} s ago` : s < 5400 ? `${Math.round(s / 60)} min ago` : `${Math.round(s / 3600)} h ago`;

export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString("en-GB");

/** An element; text is always text, never markup. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "data") Object.assign(made.dataset, value);
    else if (key === "aria") for (const [k, v] of Object.entries(value)) made.setAttribute(`aria-${k}`, v);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

export const $ = (id) => document.getElementById(id);

/** Text, only touched when it is another: so a screen reader is not told the same again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A colour of the style sheet. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Of a latency against the objective: from calm to beyond; grey without data. */
export function heat(latency, slo, scale) {
  if (latency == null || !slo) return scale.none;
  const at = Math.min(latency / slo, 1.25);
  return at < 0.7 ? mix(scale.good, scale.near, Math.max(0, (at - 0.3) / 0.4)) : mix(scale.near, scale.bad, Math.min(1, (at - 0.7) / 0.3));
}

export const scale = () => ({ good: rgb("good"), near: rgb("near"), bad: rgb("bad"), none: colour("none") });

const rgb = (name) => colour(name).match(/\w\w/g).map((part) => parseInt(part, 16));

const mix = (a, b, t) => `rgb(${a.map((from, i) => Math.round(from + (b[i] - from) * t)).join(" ")})`;

/** Of one cluster's latency against the objective, in words. */
export const standing = (latency, slo) => (latency == null ? "no data" : latency > slo ? "beyond the objective" : latency > 0.7 * slo ? "near the objective" : "well");

export const KEYS = 8;
/** Colours of lines, told apart also by those who see few. */
export const key = (at) => (at < KEYS ? colour(`key-${at}`) : colour("none"));
