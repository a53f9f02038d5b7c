// The mesh on a canvas: routes, clusters, hosts. A line's width is its traffic, its colour the
// latency of its cluster against the objective. One route large, or all of them small.

import { $, colour, count, el, heat, percent, rate, say, scale, seconds, standing } from "./format.js";

const TALL = 46;
const FLAT = 26;
const MOST_HEIGHT = 760;
const TURN = 400; // milliseconds from one state to the next

export class Graph {
  /** picked: called with a route's name, or "" for all. */
  constructor(canvas, tip, picked) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.tip = tip;
    this.picked = picked;
    this.now = new Map(); // what is drawn: cluster -> [red..], edge -> width
    this.route = "";
    this.at = null;
    this.frames = [];
    new ResizeObserver(() => this.layout()).observe(canvas.parentElement);
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.choose(null));
    canvas.addEventListener("click", () => this.open());
    canvas.addEventListener("keydown", (event) => this.press(event));
    canvas.addEventListener("blur", () => this.choose(null));
  }

  show(state, route) {
    const shape = JSON.stringify([route, state.routes.map((r) => [r.name, Object.keys(r.weights)]), state.clusters.map((c) => c.host)]);
    this.state = state;
    this.route = route;
    this.clusters = new Map(state.clusters.map((c) => [c.name, c]));
    if (shape !== this.shape) {
      this.shape = shape;
      this.layout();
    } else {
      this.retarget();
    }
  }

  layout() {
    const state = this.state;
    const width = this.canvas.parentElement.clientWidth;
    if (!state || !width) return;
    const routes = state.routes.filter((r) => !this.route || r.name === this.route);
    // Clusters near the routes that use them: fewer lines cross.
    const place = new Map();
    routes.forEach((r, at) => {
      for (const name of Object.keys(r.weights)) place.set(name, [...(place.get(name) ?? []), at]);
    });
    const mean = (all) => all.reduce((a, b) => a + b, 0) / all.length;
    const names = [...place.keys()].sort((a, b) => mean(place.get(a)) - mean(place.get(b)));
    const hosts = width < 620 ? [] : [...new Set(names.map((n) => this.clusters.get(n)?.host).filter(Boolean))];
    const most = Math.max(names.length, routes.length, 1);
    const row = most * TALL <= 560 ? TALL : Math.min(FLAT, MOST_HEIGHT / most);
    // As tall as it must be, and as what is beside it.
    const least = Math.max(150, Math.ceil(most * row + 16));
    this.canvas.parentElement.style.minHeight = `${least}px`;
    const height = Math.max(least, this.canvas.parentElement.clientHeight);
    const narrow = width < 520;
    const w = row < 8 ? { route: 22, cluster: 22, host: 22 } : { route: narrow ? 104 : 168, cluster: narrow ? 142 : 198, host: 116 };
    this.row = row;
    const column = (kind, all, x) => {
      const step = Math.min((height - 16) / Math.max(all.length, 1), row > 12 ? row * (kind === "cluster" ? 1.4 : 2.4) : Infinity);
      const top = (height - step * all.length) / 2;
      const tall = Math.max(1, Math.min(row, step) - (row > 8 ? 8 : row > 3 ? 1 : 0));
      return new Map(all.map((name, i) => [name, { kind, name, x, y: top + step * (i + 0.5), w: w[kind], h: tall }]));
    };
    const right = width - w.cluster - 1;
    this.nodes = {
      route: column("route", routes.map((r) => r.name), 1),
      cluster: column("cluster", names, hosts.length ? (width - w.cluster) / 2 + 8 : right),
      host: column("host", hosts, width - w.host - 1),
    };
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    Object.assign(this.canvas, { width: width * ratio, height: height * ratio });
    this.canvas.style.height = `${height}px`;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.size = [width, height];
    this.order = [...this.nodes.route.values(), ...this.nodes.cluster.values()];
    const chosen = this.at;
    this.choose((chosen && this.nodes[chosen.kind].get(chosen.name)) ?? null);
    this.retarget(true);
  }

  /** What is to be drawn next; it gets there within TURN. */
  retarget(atOnce = false) {
    if (!this.nodes) return this.layout();
    const target = new Map();
    const sums = new Map(); // of each box: the fullest one sets the scale
    const add = (name, traffic) => sums.set(name, (sums.get(name) ?? 0) + traffic);
    for (const route of this.state.routes) {
      if (!this.nodes.route.has(route.name)) continue;
      for (const [name, weight] of Object.entries(route.weights)) {
        const traffic = (route.demand ?? 0) * (weight ?? 0);
        add(`route ${route.name}`, traffic);
        add(`cluster ${name}`, traffic);
        target.set(`${route.name}\n${name}`, traffic);
      }
    }
    const box = this.nodes.cluster.values().next().value?.h ?? TALL;
    const unit = Math.max(3, box > 12 ? box - 10 : box) / Math.max(1e-9, ...sums.values());
    for (const [id, traffic] of target) target.set(id, traffic * unit);
    this.from = atOnce ? target : new Map([...target].map(([id, to]) => [id, this.now.get(id) ?? to]));
    this.to = target;
    this.began = performance.now();
    const slow = this.state.clusters.filter((c) => c.latency > this.state.slo).map((c) => c.name);
    this.canvas.setAttribute(
      "aria-label",
      `${this.nodes.route.size} routes to ${this.nodes.cluster.size} clusters; ` +
        (slow.length ? `beyond the objective: ${slow.slice(0, 5).join(", ")}` : "all within the objective") +
        ". Arrow keys go from one to the next, Enter opens a route, Escape shows all.",
    );
    this.wake();
  }

  wake() {
    if (!this.to) return;
    this.frame ??= requestAnimationFrame((now) => {
      this.frame = null;
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      const t = still ? 1 : Math.min(1, Math.max(0, (now - this.began) / TURN));
      const eased = t * (2 - t);
      for (const [id, to] of this.to) {
        const from = this.from.get(id) ?? to;
        this.now.set(id, from + (to - from) * eased);
      }
      const began = performance.now();
      this.draw();
      this.frames.push(performance.now() - began);
      if (this.frames.length > 600) this.frames.shift();
      if (t < 1) this.wake();
    });
  }

  draw() {
    const { context: c, nodes, state } = this;
    const ink = { ink: colour("ink"), muted: colour("muted"), line: colour("line"), surface: colour("raised"), accent: colour("accent"), heat: scale() };
    c.clearRect(0, 0, ...this.size);
    const lit = this.at ? this.near(this.at) : null;
    const used = new Map(); // how far down a box its lines have come
    const port = (node, all, width) => {
      const from = used.get(node) ?? node.y - all / 2;
      used.set(node, from + width);
      return from + width / 2;
    };
    const sums = new Map();
    const edges = [];
    for (const route of state.routes) {
      const from = nodes.route.get(route.name);
      for (const name of from ? Object.keys(route.weights) : []) {
        const to = nodes.cluster.get(name);
        const width = this.now.get(`${route.name}\n${name}`) ?? 0;
        edges.push([from, to, width, name]);
        for (const node of [from, to]) sums.set(node, (sums.get(node) ?? 0) + width);
      }
    }
    edges.sort((a, b) => a[0].y - b[0].y || a[1].y - b[1].y);
    for (const [from, to, width, name] of edges) {
      const [y0, y1] = [port(from, sums.get(from), width), port(to, sums.get(to), width)];
      const tint = heat(this.clusters.get(name)?.latency, state.slo, ink.heat);
      line(c, from.x + from.w, y0, to.x, y1, Math.max(0.7, width), tint, !lit || (lit.has(from) && lit.has(to)) ? 0.6 : 0.08);
    }
    for (const [name, from] of nodes.cluster) {
      const host = nodes.host.get(this.clusters.get(name)?.host);
      if (host) line(c, from.x + from.w, from.y, host.x, host.y, this.row > 8 ? 1.5 : 0.7, ink.muted, !lit || (lit.has(from) && lit.has(host)) ? (this.row > 8 ? 0.55 : 0.3) : 0.05);
    }
    for (const kind of ["host", "route", "cluster"]) {
      for (const node of nodes[kind].values()) this.box(node, ink, lit && !lit.has(node));
    }
  }

  box(node, ink, dim) {
    const { context: c, state } = this;
    const cluster = node.kind === "cluster" ? this.clusters.get(node.name) : null;
    const top = node.y - node.h / 2;
    const tint = cluster ? heat(cluster.latency, state.slo, ink.heat) : ink.muted;
    c.globalAlpha = dim ? 0.25 : 1;
    if (node.h < 12) {
      c.fillStyle = cluster ? tint : node.kind === "route" ? ink.accent : ink.muted;
      c.fillRect(node.x, top, node.w, node.h);
    } else {
      c.beginPath();
      c.roundRect(node.x, top, node.w, node.h, 8);
      c.fillStyle = ink.surface;
      c.fill();
      c.lineWidth = node === this.at ? 2 : 1;
      c.strokeStyle = node === this.at ? ink.accent : ink.line;
      c.stroke();
      if (cluster) {
        c.fillStyle = tint;
        c.beginPath();
        c.roundRect(node.x, top, 5, node.h, [8, 0, 0, 8]);
        c.fill();
      }
      this.text(node, cluster, ink);
    }
    if (node === this.at && node.h < 12) {
      c.strokeStyle = ink.ink;
      c.strokeRect(node.x - 1, top - 1, node.w + 2, node.h + 2);
    }
    c.globalAlpha = 1;
  }

  text(node, cluster, ink) {
    const c = this.context;
    const two = node.h > 30;
    const x = node.x + 13;
    const room = node.w - 22;
    c.textBaseline = "middle";
    c.textAlign = "left";
    c.font = `600 ${node.h > 17 ? 13 : 11}px system-ui, sans-serif`;
    c.fillStyle = ink.ink;
    const side = cluster ? seconds(cluster.latency) : node.kind === "route" ? rate(this.demand(node.name)) : "";
    if (two) {
      c.fillText(cut(c, node.name, room), x, node.y - 8);
      c.font = "12px system-ui, sans-serif";
      c.fillStyle = ink.muted;
      const host = cluster?.host && !this.nodes.host.size ? ` · ${cluster.host}` : "";
      let second = cluster ? `${side} · ${rate(cluster.load)}` : node.kind === "host" ? "host" : side;
      if (host && c.measureText(second + host).width <= room) second += host;
      c.fillText(cut(c, second, room), x, node.y + 9);
    } else {
      c.font = "12px system-ui, sans-serif";
      const aside = side ? c.measureText(side).width + 8 : 0;
      c.fillStyle = ink.muted;
      c.textAlign = "right";
      if (side) c.fillText(side, node.x + node.w - 9, node.y + 0.5);
      c.textAlign = "left";
      c.fillStyle = ink.ink;
      c.fillText(cut(c, node.name, room - aside), x, node.y + 0.5);
    }
  }

  demand(route) {
    return this.state.routes.find((r) => r.name === route)?.demand ?? null;
  }

  /** A node and all that it is joined to. */
  near(node) {
    const found = new Set([node]);
    for (const route of this.state.routes) {
      const from = this.nodes.route.get(route.name);
      for (const name of from ? Object.keys(route.weights) : []) {
        const to = this.nodes.cluster.get(name);
        const host = this.nodes.host.get(this.clusters.get(name)?.host);
        if ([from, to, host].includes(node)) [from, to, host].forEach((one) => one && found.add(one));
      }
    }
    return found;
  }

  point(event) {
    if (!this.order) return;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = 14;
    for (const node of this.order) {
      const away = Math.max(node.x - x, x - node.x - node.w, 0) + Math.max(0, Math.abs(node.y - y) - node.h / 2);
      if (away < least) [best, least] = [node, away];
    }
    this.choose(best);
  }

  choose(node) {
    if (node === this.at) return;
    this.at = node;
    this.tip.hidden = !node;
    if (node) {
      this.tip.replaceChildren(...this.words(node));
      const middle = node.x + node.w / 2 > this.size[0] / 2;
      const beside = middle ? Math.max(0, node.x - 252) : Math.min(node.x + node.w + 12, this.size[0] - 244);
      this.tip.style.left = `${beside}px`;
      this.tip.style.top = `${Math.max(0, Math.min(node.y - 30, this.size[1] - 130))}px`;
    }
    this.wake();
  }

  words(node) {
    const lines = [el("strong", { textContent: node.name })];
    const add = (text) => lines.push(el("div", { textContent: text }));
    if (node.kind === "route") {
      const route = this.state.routes.find((r) => r.name === node.name);
      add(route.missing || `${rate(route.demand)} enter`);
      const split = Object.entries(route.weights).sort((a, b) => b[1] - a[1]);
      for (const [name, weight] of split.slice(0, 5)) add(`${percent(weight)} to ${name}`);
      if (split.length > 5) add(`and ${split.length - 5} more`);
    } else {
      const one = this.clusters.get(node.name);
      add(one.missing || `${seconds(one.latency)}, ${standing(one.latency, this.state.slo)}`);
      add(`${rate(one.load)} of about ${rate(one.capacity)}`);
      add(`${count(one.in_flight)} in flight${one.limit ? `, at most ${one.limit}` : ""}`);
      if (one.rejected) add(`${rate(one.rejected)} turned away`);
      if (one.host) add(`on ${one.host}`);
      if (one.calls.length) add(`calls ${one.calls.join(", ")}`);
    }
    return lines;
  }

  open() {
    if (this.at?.kind === "route") this.picked(this.at.name === this.route ? "" : this.at.name);
  }

  press(event) {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    if (step && this.order?.length) {
      const at = this.order.indexOf(this.at);
      this.choose(this.order[(at + step + this.order.length + (at < 0 && step < 0 ? 1 : 0)) % this.order.length]);
    } else if (event.key === "Enter") this.open();
    else if (event.key === "Escape") {
      this.choose(null);
      this.picked("");
    } else return;
    event.preventDefault();
  }
}

function line(c, x0, y0, x1, y1, width, tint, alpha) {
  const bend = (x1 - x0) * 0.5;
  c.globalAlpha = alpha;
  c.lineWidth = width;
  c.strokeStyle = tint;
  c.beginPath();
  c.moveTo(x0, y0);
  c.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
  c.stroke();
  c.globalAlpha = 1;
}

/** So much of a text as there is room for. */
function cut(c, text, room) {
  if (c.measureText(text).width <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (c.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}
