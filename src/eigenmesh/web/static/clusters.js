// The clusters as a table: latency, load of capacity, requests in flight of the breaker's limit.

import { $, count, el, heat, percent, rate, scale, seconds, standing } from "./format.js";

const FEW = 10;
const MANY = 100;

const full = (c) => (c.limit ? (c.in_flight ?? 0) / c.limit : 0);
const ORDERS = {
  load: (a, b) => (b.load ?? 0) - (a.load ?? 0),
  slow: (a, b) => (b.latency ?? 0) - (a.latency ?? 0),
  full: (a, b) => full(b) - full(a),
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
};

export class Clusters {
  constructor() {
    this.all = false;
    this.rows = new Map();
    $("sort").onchange = () => this.draw();
    $("find").oninput = () => this.draw();
    $("more").onclick = () => {
      this.all = !this.all;
      this.draw();
    };
  }

  /** route: only its clusters; "": all. */
  show(state, route) {
    this.state = state;
    this.route = state.routes.find((r) => r.name === route);
    this.draw();
  }

  draw() {
    const state = this.state;
    if (!state) return;
    const wanted = $("find").value.trim().toLowerCase();
    const found = state.clusters
      .filter((c) => (!this.route || c.name in this.route.weights) && (!wanted || `${c.name} ${c.host}`.toLowerCase().includes(wanted)))
      .sort(ORDERS[$("sort").value]);
    const most = this.all ? MANY : FEW;
    const tints = scale();
    const shown = found.slice(0, most).map((c) => this.row(c, state.slo, tints));
    const body = $("clusters");
    if (shown.length !== body.children.length || shown.some((row, i) => row !== body.children[i])) body.replaceChildren(...shown);
    $("more").hidden = found.length <= FEW;
    $("more").textContent = this.all ? "Show fewer" : `Show ${Math.min(MANY, found.length)} of ${found.length}`;
  }

  row(c, slo, tints) {
    let row = this.rows.get(c.name);
    if (!row) {
      const bar = () => el("span", { className: "bar" }, el("i"));
      row = el("tr", {},
        el("th", { scope: "row" }, el("span", { className: "dot" }), el("b"), el("small")),
        el("td", { className: "nums" }, el("b"), el("small")),
        el("td", {}, bar(), el("small", { className: "nums" })),
        el("td", {}, bar(), el("small", { className: "nums" })),
        el("td", { className: "nums" }));
      ["Cluster", "Latency", "Load of capacity", "In flight of limit", "Turned away"].forEach((name, i) => (row.children[i].dataset.name = name));
      this.rows.set(c.name, row);
    }
    const [name, latency, load, flight, away] = row.children;
    name.children[0].style.background = heat(c.latency, slo, tints);
    name.children[0].title = standing(c.latency, slo);
    name.children[1].textContent = c.name;
    name.children[2].textContent = c.missing || c.host;
    latency.children[0].textContent = seconds(c.latency);
    latency.children[1].textContent = c.p99 == null ? "" : `p99 ${seconds(c.p99)}`;
    fill(load, c.capacity ? (c.load ?? 0) / c.capacity : 0, `${rate(c.load)} of ${rate(c.capacity)}`);
    fill(flight, full(c), c.limit ? `${count(c.in_flight)} of ${c.limit}` : `${count(c.in_flight)}, own limit`);
    away.textContent = c.rejected >= 0.05 ? rate(c.rejected) : "none";
    away.classList.toggle("calm", !(c.rejected >= 0.05));
    away.classList.toggle("bad", c.rejected > 0.01 * (c.load ?? 0));
    return row;
  }
}

function fill(cell, part, text) {
  const inner = cell.children[0].children[0];
  inner.style.width = `${100 * Math.min(1, part)}%`;
  inner.className = part > 0.9 ? "bad" : part > 0.7 ? "near" : "";
  inner.parentElement.title = percent(part, 0);
  cell.children[1].textContent = text;
}
