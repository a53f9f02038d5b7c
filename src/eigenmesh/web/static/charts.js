// Latency and weights over time, of the clusters of one route.

import { clock, colour, el, key, KEYS, percent, seconds } from "./format.js";

const LEFT = 52;
const BOTTOM = 20;
const HEIGHT = 190;
const MOST = 240;

export class Charts {
  constructor(latency, weights, legend) {
    this.canvases = { latency, weights };
    this.legend = legend;
    this.data = null;
    this.at = null;
    for (const canvas of [latency, weights]) {
      canvas.addEventListener("pointermove", (event) => this.point(event, canvas));
      canvas.addEventListener("pointerleave", () => this.choose(null));
      new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
    }
  }

  /** data: what /api/history gives. */
  reset(data) {
    this.data = data;
    this.rank();
    this.draw();
  }

  add(state, moved) {
    const data = this.data;
    const route = data && state.routes.find((r) => r.name === data.route);
    if (!route || !state.decision || state.decision.time <= (data.times.at(-1) ?? 0)) return;
    const clusters = new Map(state.clusters.map((c) => [c.name, c]));
    const all = [data.times, data.actions];
    data.times.push(state.decision.time);
    data.actions.push(moved);
    for (const [name, series] of Object.entries(data.clusters)) {
      series.latency.push(clusters.get(name)?.latency ?? null);
      series.weight.push(route.weights[name] ?? null);
      all.push(series.latency, series.weight);
    }
    if (data.times.length > MOST) for (const one of all) one.shift();
    this.draw();
  }

  /** The busiest clusters get a colour each; the others share one. */
  rank() {
    const last = (series) => series.weight.findLast((w) => w != null) ?? 0;
    const names = Object.keys(this.data.clusters);
    this.named = names.length <= KEYS ? names : [...names].sort((a, b) => last(this.data.clusters[b]) - last(this.data.clusters[a])).slice(0, KEYS - 1);
    this.others = names.filter((name) => !this.named.includes(name));
  }

  describe() {
    const at = this.at ?? this.data.times.length - 1;
    const entries = this.named.map((name, i) => {
      const series = this.data.clusters[name];
      return [name, key(i), `${seconds(series.latency[at])} · ${percent(series.weight[at])}`];
    });
    if (this.others.length) entries.push([`${this.others.length} others`, colour("none"), percent(this.rest(at))]);
    if (this.legend.children.length !== entries.length) {
      this.legend.replaceChildren(...entries.map(() => el("li", {}, el("i"), el("b"), el("span"))));
    }
    entries.forEach(([name, tint, text], i) => {
      const [mark, title, value] = this.legend.children[i].children;
      mark.style.background = tint;
      title.textContent = name;
      value.textContent = text;
    });
  }

  rest(at) {
    return this.others.reduce((sum, name) => sum + (this.data.clusters[name].weight[at] ?? 0), 0);
  }

  draw() {
    if (!this.data) return;
    this.describe();
    this.lines(this.canvases.latency);
    this.stack(this.canvases.weights);
  }

  begin(canvas, top, label) {
    const width = canvas.parentElement.clientWidth;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    Object.assign(canvas, { width: width * ratio, height: HEIGHT * ratio });
    canvas.style.height = `${HEIGHT}px`;
    const c = canvas.getContext("2d");
    c.scale(ratio, ratio);
    const { times } = this.data;
    const [first, last] = [times[0] ?? 0, times.at(-1) ?? 1];
    const x = (i) => LEFT + ((times[i] - first) / Math.max(last - first, 1e-9)) * (width - LEFT - 8);
    const y = (value) => 8 + (1 - Math.min(value / top, 1.02)) * (HEIGHT - BOTTOM - 8);
    c.font = "11px system-ui, sans-serif";
    c.textBaseline = "middle";
    c.textAlign = "right";
    for (let i = 0; i <= 4; i++) {
      const value = (top * i) / 4;
      c.fillStyle = colour("muted");
      if (i % 2 === 0) c.fillText(label(value), LEFT - 8, y(value));
      c.fillStyle = colour("line");
      c.fillRect(LEFT, Math.round(y(value)), width - LEFT - 8, 1);
    }
    c.fillStyle = colour("muted");
    c.textAlign = "left";
    if (times.length) c.fillText(clock(first), LEFT, HEIGHT - 8);
    c.textAlign = "right";
    if (times.length > 1) c.fillText(clock(last), width - 8, HEIGHT - 8);
    return { c, x, y, width };
  }

  finish({ c, x }) {
    const { actions } = this.data;
    // A tick below for every plan that was pushed.
    c.fillStyle = colour("accent");
    actions.forEach((action, i) => {
      if (action === "push" || action === "rollback") c.fillRect(x(i) - 0.75, HEIGHT - BOTTOM - 1, 1.5, action === "push" ? 5 : 9);
    });
    if (this.at != null) {
      c.fillStyle = colour("ink");
      c.globalAlpha = 0.5;
      c.fillRect(x(this.at) - 0.5, 8, 1, HEIGHT - BOTTOM - 8);
      c.globalAlpha = 1;
    }
  }

  lines(canvas) {
    const { clusters, times } = this.data;
    const shown = this.named.flatMap((name) => clusters[name].latency.filter((v) => v != null)).sort((a, b) => a - b);
    // One outlier must not press all else flat.
    const top = nice(Math.max(1.15 * (shown[Math.floor(shown.length * 0.985)] ?? 0), this.slo < 2.5 * (shown.at(-1) ?? 0) ? 1.1 * this.slo : 0, 1e-3));
    const plot = this.begin(canvas, top, seconds);
    const { c, x, y, width } = plot;
    if (this.slo <= top) {
      c.strokeStyle = colour("bad");
      c.setLineDash([5, 4]);
      c.beginPath();
      c.moveTo(LEFT, y(this.slo));
      c.lineTo(width - 8, y(this.slo));
      c.stroke();
      c.setLineDash([]);
      c.fillStyle = colour("bad");
      c.textAlign = "right";
      c.fillText("objective", width - 10, y(this.slo) - 8);
    }
    c.lineJoin = "round";
    const trace = (values, tint, wide) => {
      c.strokeStyle = tint;
      c.lineWidth = wide;
      c.beginPath();
      let down = false;
      for (let i = 0; i < times.length; i++) {
        if (values[i] == null) down = false;
        else if (down) c.lineTo(x(i), y(values[i]));
        else {
          c.moveTo(x(i), y(values[i]));
          down = true;
        }
      }
      c.stroke();
    };
    if (this.others.length <= 64) for (const name of this.others) trace(clusters[name].latency, colour("none"), 0.5);
    this.named.forEach((name, i) => trace(clusters[name].latency, key(i), 1.8));
    this.finish(plot);
  }

  stack(canvas) {
    const { clusters, times } = this.data;
    const plot = this.begin(canvas, 1, (v) => percent(v, 0));
    const { c, x, y } = plot;
    let below = times.map(() => 0);
    const layer = (values, tint) => {
      const above = below.map((v, i) => v + (values[i] ?? 0));
      c.fillStyle = tint;
      c.globalAlpha = 0.82;
      c.beginPath();
      times.forEach((_, i) => c.lineTo(x(i), y(above[i])));
      for (let i = times.length - 1; i >= 0; i--) c.lineTo(x(i), y(below[i]));
      c.fill();
      c.globalAlpha = 1;
      below = above;
    };
    this.named.forEach((name, i) => layer(clusters[name].weight, key(i)));
    if (this.others.length) layer(times.map((_, i) => this.rest(i)), colour("none"));
    this.finish(plot);
  }

  point(event, canvas) {
    if (!this.data?.times.length) return;
    const width = canvas.parentElement.clientWidth;
    const part = (event.clientX - canvas.getBoundingClientRect().left - LEFT) / (width - LEFT - 8);
    const { times } = this.data;
    const wanted = times[0] + part * (times.at(-1) - times[0]);
    let best = 0;
    times.forEach((time, i) => {
      if (Math.abs(time - wanted) < Math.abs(times[best] - wanted)) best = i;
    });
    this.choose(best);
  }

  choose(at) {
    if (at === this.at) return;
    this.at = at;
    this.draw();
  }
}

/** The next round number above, in quarters that are round too. */
function nice(x) {
  const unit = 10 ** Math.floor(Math.log10(x));
  return [1, 2, 4, 6, 8, 10].map((n) => n * unit).find((n) => n >= x * 0.999) ?? 10 * unit;
}
