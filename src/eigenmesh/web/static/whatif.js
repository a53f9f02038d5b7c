// Sliders: another demand, other capacities, and what plan that would call for.

import { $, el, percent, rate, seconds } from "./format.js";
import { call } from "./server.js";

const MOST = 6;
const WAIT = 250; // milliseconds of rest before it is asked

export class WhatIf {
  constructor() {
    this.form = $("whatif");
    this.result = $("whatif-result");
    this.form.onsubmit = (event) => event.preventDefault();
    this.form.oninput = () => this.changed();
    this.form.onreset = () => setTimeout(() => this.changed());
  }

  /** The sliders of this route's busiest clusters; they stay while it is the same route. */
  show(state, name) {
    this.state = state;
    const route = state.routes.find((r) => r.name === name) ?? state.routes[0];
    if (!route || route.name === this.route) return;
    this.route = route.name;
    const clusters = Object.entries(route.weights).sort((a, b) => b[1] - a[1]).slice(0, MOST).map(([cluster]) => cluster);
    this.form.replaceChildren(
      this.slider("demand", "Demand of the whole mesh", -1, 1.6, 0, 0.02),
      ...clusters.map((cluster) => this.slider(`capacity ${cluster}`, `Capacity of ${cluster}`, 0, 2, 1, 0.05)),
      el("button", { type: "reset", className: "quiet", textContent: "As it is now" }),
    );
    this.changed();
  }

  slider(name, title, min, max, value, step) {
    // No <output>: the label would be its.
    const output = el("b", { className: "value" });
    const input = el("input", { type: "range", name, min, max, step });
    input.defaultValue = value;
    return el("label", { className: "slider" }, el("span", { textContent: title }), output, input);
  }

  asked() {
    const asked = { scale: 1, capacities: {}, without: [] };
    let plain = true;
    for (const input of this.form.querySelectorAll("input")) {
      const value = Number(input.value);
      const output = input.parentElement.querySelector(".value");
      if (input.name === "demand") {
        asked.scale = 2 ** value;
        output.textContent = `× ${asked.scale.toFixed(2)}`;
      } else {
        const cluster = input.name.slice("capacity ".length);
        output.textContent = value === 0 ? "gone" : percent(value, 0);
        if (value === 0) asked.without.push(cluster);
        else if (value !== 1) asked.capacities[cluster] = value;
      }
      input.setAttribute("aria-valuetext", output.textContent);
      plain &&= value === Number(input.defaultValue);
    }
    return [asked, plain];
  }

  changed() {
    const [asked, plain] = this.asked();
    clearTimeout(this.timer);
    this.wanted = null;
    if (plain) {
      this.result.replaceChildren(el("p", { className: "note", textContent: "Move a slider: the solver answers what it would do." }));
      return;
    }
    this.wanted = asked;
    this.result.classList.add("busy");
    this.timer = setTimeout(() => this.ask(), WAIT);
  }

  /** One question at a time: the solver is the one that the mesh is steered by. */
  async ask() {
    if (this.busy || !this.wanted) return;
    const asked = this.wanted;
    this.busy = true;
    try {
      const found = await call("WhatIf", "", asked);
      if (this.wanted === asked) this.tell(found);
    } catch (error) {
      if (this.wanted === asked) this.result.replaceChildren(el("p", { className: "error", textContent: error.message }));
    } finally {
      this.busy = false;
      if (this.wanted && this.wanted !== asked) this.ask();
      else this.result.classList.remove("busy");
    }
  }

  tell(found) {
    const now = this.state.routes.find((r) => r.name === this.route)?.weights ?? {};
    const then = found.plan.routes.find((r) => r.route === this.route)?.weights ?? {};
    const forecast = found.clusters ?? {};
    const rows = Object.keys(now)
      .sort((a, b) => (then[b] ?? 0) - (then[a] ?? 0))
      .slice(0, 8)
      .map((name) => {
        const one = forecast[name];
        return el("tr", {},
          el("th", { scope: "row", textContent: name }),
          el("td", {}, bars(now[name] ?? 0, then[name] ?? 0)),
          el("td", { className: "nums", textContent: `${percent(now[name] ?? 0)} → ${percent(then[name] ?? 0)}` }),
          el("td", { className: "nums", textContent: one ? `${seconds(one.latency ?? 0)} at ${rate(one.load ?? 0)}` : "gone" }),
          el("td", { className: "nums", textContent: one?.blocked > 0.0005 ? `${percent(one.blocked)} turned away` : "" }));
      });
    this.result.replaceChildren(
      el("dl", { className: "figures two" },
        figure("With the plan in force", seconds(found.incumbent_predicted_latency)),
        figure("With the plan it would make", seconds(found.predicted_latency))),
      el("table", { className: "small" }, el("tbody", {}, ...rows)),
    );
  }
}

const figure = (name, value) => el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: value }));

/** Two weights, one above the other. */
function bars(now, then) {
  const bar = (part, kind) => {
    const fill = el("i", { className: kind });
    fill.style.width = `${100 * part}%`;
    return fill;
  };
  return el("span", { className: "bars" }, bar(now, "before"), bar(then, "after"));
}
