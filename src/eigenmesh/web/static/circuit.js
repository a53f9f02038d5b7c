// A circuit as an SVG, from its description: gates in order, each on its wires.

import { el, percent, seconds } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const TALL = 22;
const LEFT = 34;

const MEANING = {
  H: "even superposition",
  RY: "rotation about Y",
  C: "phase by the cost of every combination of limits",
  M: "mixer, about the axis it leans to",
  RX: "mixer",
  W: "one rung of each register",
  XY: "mixer on a ring of rungs",
  Z: "controlled phase flip",
};

function svg(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function label(x, y, text, kind) {
  return svg("text", { x, y, class: kind, "text-anchor": "middle", "dominant-baseline": "central" }, text);
}

/** Each gate goes as far left as the gates before it on its wires let it. */
function columns(gates, wires) {
  const free = Array(wires).fill(0);
  return gates.map((gate) => {
    const all = [...gate.wires, ...gate.controls];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const at = Math.max(...free.slice(low, high + 1));
    free.fill(at + 1, low, high + 1);
    return at;
  });
}

const NAMES = { C: "cost", M: "mix", XY: "mix" };
const named = (gate) => NAMES[gate.name] ?? gate.name;
const alone = (gate) => Math.min(...gate.wires) === Math.max(...gate.wires);

/** In one line on one wire, in two on several. */
const text = (gate) => (!gate.label ? [named(gate)] : !alone(gate) ? [named(gate), gate.label] : gate.name === "RY" ? [`RY ${gate.label}`] : [gate.label]);

const wide = (gate) => Math.max(34, 14 + 6.6 * Math.max(...text(gate).map((line) => line.length)));

export function drawing(described, title) {
  const { qubits, gates } = described;
  const places = columns(gates, qubits);
  const count = Math.max(0, ...places) + 1;
  const widths = Array(count).fill(40);
  gates.forEach((gate, i) => (widths[places[i]] = Math.max(widths[places[i]], wide(gate))));
  const starts = widths.map((_, i) => LEFT + 10 + widths.slice(0, i).reduce((sum, w) => sum + w + 12, 0));
  const end = starts.at(-1) + widths.at(-1) + (described.left_out ? 74 : 12);
  const right = end + 34;
  const row = qubits > 6 ? 27 : 34;
  const height = qubits * row + 8;
  const y = (wire) => 4 + row * (wire + 0.5);
  const picture = svg("svg", { viewBox: `0 0 ${right} ${height}`, width: right, height, role: "img", "aria-label": title });
  for (let wire = 0; wire < qubits; wire++) {
    picture.append(label(14, y(wire), `q${wire}`, "q-name"), svg("line", { x1: LEFT, x2: end, y1: y(wire), y2: y(wire), class: "q-wire" }));
  }
  gates.forEach((gate, i) => {
    const [x, w] = [starts[places[i]], widths[places[i]]];
    const middle = x + w / 2;
    const [low, high] = [Math.min(...gate.wires), Math.max(...gate.wires)];
    const group = svg("g", {}, svg("title", {}, MEANING[gate.name] ?? gate.name));
    if (gate.controls.length) {
      const all = [...gate.controls, ...gate.wires];
      group.append(svg("line", { x1: middle, x2: middle, y1: y(Math.min(...all)), y2: y(Math.max(...all)), class: "q-join" }));
      for (const wire of gate.controls) {
        // Half filled: it rotates either way, by another angle; full: only if it is set.
        group.append(svg("circle", { cx: middle, cy: y(wire), r: 5, class: gate.name === "Z" ? "q-dot" : "q-half" }));
        if (gate.name !== "Z") group.append(svg("path", { d: `M ${middle} ${y(wire) - 5} a 5 5 0 0 1 0 10 z`, class: "q-dot" }));
      }
    }
    group.append(svg("rect", { x, y: y(low) - TALL / 2, width: w, height: (high - low) * row + TALL, rx: 4, class: `q-gate q-${gate.name}` }));
    const lines = text(gate);
    const center = (y(low) + y(high)) / 2;
    lines.forEach((line, at) => group.append(label(middle, center + (at - (lines.length - 1) / 2) * 16, line, "q-text")));
    picture.append(group);
  });
  if (described.left_out) {
    picture.append(svg("rect", { x: end - 64, y: 2, width: 52, height: height - 4, class: "q-gap" }), label(end - 38, height / 2, `+${described.left_out} layers`, "q-text"));
  }
  for (let wire = 0; wire < qubits; wire++) {
    const [x, at] = [end, y(wire)];
    picture.append(
      svg("rect", { x, y: at - 10, width: 26, height: 20, rx: 4, class: "q-meter" }),
      svg("path", { d: `M ${x + 6} ${at + 5} a 7 7 0 0 1 14 0 M ${x + 13} ${at + 5} l 5 -9`, class: "q-needle" }),
    );
  }
  return picture;
}

const PARTS = { weights: "Weights", limits: "Breaker limits" };

/** What was run for both parts, and who won. */
export function circuits(state) {
  const found = Object.entries(PARTS).filter(([part]) => state.circuits[part]);
  if (!found.length) {
    const why = state.decision ? "No circuit was run for this decision." : "No decision yet.";
    return [el("p", { className: "note", textContent: why })];
  }
  return found.map(([part, title]) => {
    const one = state.circuits[part];
    const rivals = state.decision.candidates.filter((c) => c.part === part && c.solver !== one.solver && !c.error);
    const winner = state.decision.candidates.find((c) => c.part === part && c.won);
    const rival = rivals.at(-1);
    const where = one.detail.backend === "simulated" ? `simulated on ${one.detail.device}` : one.detail.device;
    const parts = [`${one.solver}, ${one.qubits + (one.wires_left_out ?? 0)} qubits, ${where}, ${seconds(one.seconds)}`];
    if (one.route) parts.push(`drawn: the tree of route ${one.route}`);
    if (one.wires_left_out) parts.push(`drawn: the first ${one.qubits} qubits`);
    if (one.detail.shots && part === "limits") parts.push(`${one.detail.shots} samples`);
    if (one.detail.approximation_ratio) parts.push(`approximation ratio ${percent(Number(one.detail.approximation_ratio), 2)}`);
    const outcome = one.won ? "it won" : winner ? `${winner.solver} won` : "the plan in force was as good";
    if (rival) parts.push(`beside ${rival.solver}, ${seconds(rival.seconds)}: ${outcome}`);
    const scroll = el("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel: `${title}: the circuit` });
    scroll.append(drawing(one, `${title}: ${parts.join("; ")}`));
    return el("figure", {}, el("figcaption", {}, el("strong", { textContent: title }), ` ${parts.join("; ")}.`), scroll);
  });
}
