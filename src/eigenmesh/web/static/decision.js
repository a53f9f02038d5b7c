// One decision, in words: what was done, why, what was predicted, who proposed it, what was cut.

import { clock, count, el, percent, seconds } from "./format.js";

const DONE = {
  push: "pushed",
  hold: "held",
  recommend: "recommended",
  await: "waits for a yes",
  rollback: "rolled back",
};

export const badge = (action) => el("span", { className: `badge ${action}`, textContent: DONE[action] ?? action });

const better = (from, to) => (from && to != null ? ` (${to <= from ? "−" : "+"}${percent(Math.abs(1 - to / from))})` : "");

export function changes(decision, most = 8) {
  const weights = decision.weight_changes.map((c) => [c.cluster, `of ${c.route}`, percent(c.from), percent(c.to), c.to > c.from]);
  const limits = decision.limit_changes.map((c) => [c.cluster, "limit", c.from == null ? "own" : count(c.from), count(c.to), c.from == null || c.to > c.from]);
  const all = [...weights, ...limits];
  const list = el("ul", { className: "changes" });
  for (const [name, of, from, to, up] of all.slice(0, most)) {
    list.append(el("li", {}, el("b", { textContent: name }), ` ${of} `, el("span", { className: "nums" }, from, " → ", el("strong", { className: up ? "up" : "down", textContent: to }))));
  }
  const left = decision.change_count - Math.min(most, all.length);
  if (left > 0) list.append(el("li", { className: "note", textContent: `and ${left} more` }));
  return all.length ? list : null;
}

function facts(decision) {
  const list = el("dl", { className: "facts" });
  const add = (name, text) => text && list.append(el("div", {}, el("dt", { textContent: name }), el("dd", { textContent: text })));
  if (decision.predicted != null) add("Objective", `${seconds(decision.incumbent_predicted)} → ${seconds(decision.predicted)}${better(decision.incumbent_predicted, decision.predicted)}`);
  if (decision.predicted_latency != null) add("Predicted latency", seconds(decision.predicted_latency));
  add("Verified", decision.check);
  if (decision.seconds) add("Took", seconds(decision.seconds));
  return list.children.length ? list : null;
}

function candidates(decision) {
  if (!decision.candidates.length) return null;
  const rows = decision.candidates.map((c) =>
    el("tr", { className: c.won ? "won" : "" },
      el("td", { textContent: c.part }),
      el("td", {}, c.solver, c.won ? el("span", { className: "win", textContent: "won" }) : null),
      el("td", { className: "nums", textContent: c.error || seconds(c.objective) }),
      el("td", { className: "nums", textContent: seconds(c.seconds) })),
  );
  const head = el("tr", {}, ...["Part", "Solver", "Objective", "Took"].map((text) => el("th", { scope: "col", textContent: text })));
  return el("table", { className: "small" }, el("thead", {}, head), el("tbody", {}, ...rows));
}

function cuts(decision) {
  if (!decision.cuts.length) return null;
  const list = el("ul", { className: "changes" });
  for (const c of decision.cuts.slice(0, 8)) list.append(el("li", {}, el("b", { textContent: c.rule }), ` ${c.subject} `, el("span", { className: "nums", textContent: `${number(c.proposed)} → ${number(c.allowed)}` })));
  const left = decision.cut_count - Math.min(8, decision.cuts.length);
  if (left > 0) list.append(el("li", { className: "note", textContent: `and ${left} more` }));
  return el("details", {}, el("summary", { textContent: `The guard cut ${decision.cut_count}` }), list);
}

const number = (x) => (x == null ? "–" : Math.abs(x) < 1 ? percent(x) : count(x));

export function body(decision) {
  return [changes(decision), facts(decision), candidates(decision), cuts(decision)].filter(Boolean);
}

export function whole(decision) {
  return [
    el("p", { className: "head" }, badge(decision.action), el("span", { className: "number", textContent: `#${decision.number}` }), el("time", { textContent: clock(decision.time) })),
    el("p", { className: "why", textContent: decision.why }),
    ...body(decision),
  ];
}

/** A decision as the API gives it, as the page's own view does. */
export function told(message) {
  return {
    number: Number(message.number),
    time: Date.parse(message.time) / 1000,
    action: message.action.replace("ACTION_", "").toLowerCase(),
    why: message.why,
    check: message.check?.why ?? "",
    verdict: (message.check?.verdict ?? "").replace("VERDICT_", "").toLowerCase(),
    predicted: message.predicted,
    incumbent_predicted: message.incumbent_predicted,
    predicted_latency: message.predicted_latency,
    seconds: parseFloat(message.took ?? "0"),
    candidates: (message.candidates ?? []).map((c) => ({ part: c.part, solver: c.solver, objective: c.objective, seconds: parseFloat(c.took ?? "0"), won: !!c.won, error: c.detail?.error ?? "" })),
    cuts: (message.cuts ?? []).map((c) => ({ proposed: 0, allowed: 0, ...c })),
    cut_count: (message.cuts ?? []).length,
    weight_changes: [],
    limit_changes: [],
    change_count: 0,
  };
}
