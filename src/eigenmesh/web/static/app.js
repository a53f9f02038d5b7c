// The page: who visits, what comes in, and what is asked for.

import { $, ago, count, el, percent, rate, say, seconds } from "./format.js";
import { Charts } from "./charts.js";
import { circuits } from "./circuit.js";
import { Clusters } from "./clusters.js";
import { changes, whole } from "./decision.js";
import { Graph } from "./graph.js";
import { Log, showAudit } from "./log.js";
import { WhatIf } from "./whatif.js";
import { call, follow, history, session, signIn, signOut } from "./server.js";

const MODES = { observe: "Recommend", approve: "Ask first", auto: "Steer" };
const FOCUS_FROM = 40; // clusters, from which on one route is shown at first

const page = { state: null, visitor: null, route: null, drawn: "", received: 0 };

const graph = new Graph($("graph"), $("tip"), (route) => pick(route));
const charts = new Charts($("latency"), $("weights"), $("times-legend"));
const clusters = new Clusters();
const whatIf = new WhatIf();
const log = new Log(undo, () => page.visitor?.role === "write", report);
window.eigenmesh = { page, graph }; // for whoever looks into it

function report(error) {
  toast(error.message, true);
  if (error.status === 401 || error.status === 403) enter();
}

function toast(text, bad = false) {
  const one = el("p", { className: bad ? "bad" : "", textContent: text });
  $("toasts").append(one);
  setTimeout(() => one.remove(), bad ? 9000 : 4500);
}

// Who visits.

async function enter() {
  page.source?.close();
  clearTimeout(page.again);
  let visitor;
  try {
    visitor = await session();
  } catch {
    lost(false);
    page.again = setTimeout(enter, 3000);
    return;
  }
  page.visitor = visitor;
  say($("who"), visitor.who ? `${visitor.who}, may ${visitor.role}` : "");
  $("sign").hidden = !visitor.tokens || !visitor.who;
  $("sign").textContent = visitor.role === "write" ? "Sign out" : "Sign in";
  const out = !visitor.role;
  $("door").hidden = !out;
  $("door-form").hidden = !visitor.tokens;
  $("main").hidden = out;
  if (out) {
    say($("door-why"), visitor.message);
    say($("link"), "not signed in");
    $("link").className = "link";
    return;
  }
  page.drawn = "";
  page.source = follow(show, (over) => {
    lost(true);
    if (over) page.again = setTimeout(enter, 3000);
  });
  log.start();
  showAudit(report);
}

$("door-form").onsubmit = async (event) => {
  event.preventDefault();
  try {
    await signIn($("token").value.trim());
    $("token").value = "";
    $("door").classList.remove("open");
    enter();
  } catch (error) {
    toast(error.message, true);
  }
};

$("sign").onclick = async () => {
  if (page.visitor.role === "write") {
    await signOut().catch(report);
    enter();
  } else {
    $("door").hidden = false;
    say($("door-why"), "A token with the role write lets you steer.");
    $("token").focus();
  }
};

function lost(known) {
  say($("link"), known ? "connection lost; trying again" : "Eigenmesh cannot be reached; trying again");
  $("link").className = "link gone";
}

// What comes in.

function show(state) {
  page.state = state;
  page.received = performance.now();
  if (page.route === null || (page.route && !state.routes.some((r) => r.name === page.route))) {
    page.route = state.clusters.length > FOCUS_FROM ? busiest(state) : "";
  }
  routes(state);
  steering(state);
  pending(state);
  figures(state);
  graph.show(state, page.route);
  clusters.show(state, page.route);
  const charted = page.route || busiest(state);
  whatIf.show(state, charted);
  charts.slo = state.slo;
  if (charts.data?.route === charted) charts.add(state, state.decision?.action ?? "");
  else chart(charted);
  if (state.decision) {
    const key = `${state.decision.number} ${page.visitor.role}`;
    if (key !== page.drawn) {
      page.drawn = key;
      $("decision").replaceChildren(...whole(state.decision));
      $("circuit").replaceChildren(...circuits(state));
      log.add(state.decision);
    }
  } else {
    $("decision").replaceChildren(el("p", { className: "note", textContent: "None yet: the first one comes when the mesh has been seen for a while." }));
    $("circuit").replaceChildren(...circuits(state));
  }
  tick();
}

const busiest = (state) => state.routes.reduce((best, r) => ((r.demand ?? 0) > (best?.demand ?? -1) ? r : best), null)?.name ?? "";

async function chart(route) {
  if (!route || page.charting === route) return;
  page.charting = route;
  const found = await history(route).catch(() => null);
  page.charting = null;
  if (found && route === (page.route || busiest(page.state))) {
    charts.reset(found);
    say($("times-route"), `route ${route}; ticks: plans that were pushed`);
    say($("latency-caption"), `Latency (${latencyName(page.state)})`);
  }
}

const latencyName = (state) => (state.quantile == null ? "mean" : `p${Number((100 * state.quantile).toFixed(2))}`);

function routes(state) {
  const names = state.routes.map((r) => r.name);
  const select = $("route");
  if (select.dataset.names !== names.join("\n")) {
    select.dataset.names = names.join("\n");
    select.replaceChildren(el("option", { value: "", textContent: `all ${names.length}` }), ...names.map((name) => el("option", { value: name, textContent: name })));
    select.closest("label").hidden = names.length < 2;
  }
  select.value = page.route;
  if (!$("graph-legend").children.length) {
    $("graph-legend").append(el("i", { className: "ramp" }), el("span"));
  }
  say($("graph-legend").lastChild, `0 to ${seconds(state.slo)}, the objective; width: traffic`);
  say($("latency-head"), `Latency (${latencyName(state)})`);
}

function pick(route) {
  page.route = route;
  if (page.state) show(page.state);
}

$("route").onchange = () => pick($("route").value);

function steering(state) {
  const [dot, title, why] = $("status").children;
  const stopped = state.stopped;
  const kind = stopped ? "stopped" : state.mode;
  dot.className = `dot ${kind}`;
  const words = { stopped: "Stopped", observe: "Recommending", approve: "Asking first", auto: "Steering" };
  say(title, words[kind]);
  say(why, stopped || { observe: "nothing is pushed", approve: "every plan waits for a yes", auto: "what the guard passes is pushed" }[state.mode]);
  const writes = page.visitor.role === "write";
  const key = `${state.mode} ${!!stopped} ${writes}`;
  if (key === page.steered) return;
  page.steered = key;
  const held = document.activeElement?.id;
  $("mode").replaceChildren($("mode").firstElementChild, ...Object.entries(MODES).map(([mode, title]) =>
    el("label", {}, el("input", { type: "radio", name: "mode", id: `mode-${mode}`, value: mode, checked: mode === state.mode, disabled: !writes, onchange: () => setMode(mode) }), el("span", { textContent: title }))));
  const button = (id, text, act, kind = "") => el("button", { type: "button", id, className: kind, textContent: text, onclick: act });
  $("controls").replaceChildren(...(!writes ? [] : [
    stopped ? button("resume", "Resume", resume, "primary") : button("pause", "Pause", pause, "primary"),
    button("restore", "Restore originals", restore, "quiet"),
  ]));
  // Who pressed Pause goes on with Resume.
  if (held) $(held === "pause" ? "resume" : held === "resume" ? "pause" : held)?.focus();
}

function pending(state) {
  const one = state.pending;
  const key = one ? `${one.number} ${page.visitor.role}` : "";
  if ($("pending").dataset.key === key) return;
  $("pending").dataset.key = key;
  $("pending").hidden = !one;
  if (!one) return;
  const buttons = page.visitor.role !== "write" ? null : el("div", { className: "buttons" },
    el("button", { type: "button", id: "approve", className: "primary", textContent: "Approve", onclick: () => approve(one) }),
    el("button", { type: "button", id: "reject", className: "quiet", textContent: "Reject", onclick: () => reject(one) }));
  $("pending").replaceChildren(
    el("div", {}, el("h2", { id: "pending-title", textContent: `The plan of decision #${one.number} waits for a yes` }), el("p", { textContent: one.why }), changes(one, 6)),
    buttons ?? "");
}

function figures(state) {
  const sum = (get) => state.clusters.reduce((total, c) => total + (get(c) ?? 0), 0);
  const loaded = state.clusters.filter((c) => c.latency != null && c.load > 0);
  const load = loaded.reduce((total, c) => total + c.load, 0);
  const latency = load ? loaded.reduce((total, c) => total + c.load * c.latency, 0) / load : null;
  const away = sum((c) => c.rejected);
  const beyond = state.clusters.filter((c) => c.latency > state.slo).length;
  const blind = state.clusters.filter((c) => c.missing).length;
  const entries = [
    ["Demand", rate(state.routes.reduce((total, r) => total + (r.demand ?? 0), 0)), `${state.routes.length} routes`],
    [`Latency, ${latencyName(state)}`, seconds(latency), `objective ${seconds(state.slo)}`],
    ["Beyond the objective", String(beyond), `of ${state.clusters.length} clusters${blind ? `, ${blind} unseen` : ""}`],
    ["In flight", count(sum((c) => c.in_flight)), "requests"],
    ["Turned away", percent(load + away ? away / (load + away) : 0), "by breakers"],
    ["Envoys", String(state.nodes), "connected"],
  ];
  const list = $("figures");
  if (!list.children.length) list.append(...entries.map(() => el("div", {}, el("dt"), el("dd"), el("small"))));
  entries.forEach((texts, i) => texts.forEach((text, j) => say(list.children[i].children[j], text)));
  list.children[2].classList.toggle("bad", beyond > 0);
}

function tick() {
  const state = page.state;
  if (!state || page.source?.readyState !== EventSource.OPEN) return;
  const age = state.decision ? state.time - state.decision.time + (performance.now() - page.received) / 1000 : null;
  const late = age != null && age > 3 * state.interval + 5;
  say($("link"), state.decision ? `${late ? "no news since" : "live ·"} #${state.decision.number}, ${ago(age)}` : "live · no decision yet");
  $("link").className = `link ${late ? "gone" : "live"}`;
  say($("mesh"), state.mesh);
  document.title = `${state.mesh} · Eigenmesh`;
}
setInterval(tick, 1000);

// What is asked for.

function ask(title, text, yes, reason = false) {
  const dialog = $("ask");
  $("ask-title").textContent = title;
  $("ask-text").textContent = text;
  $("ask-yes").textContent = yes;
  $("ask-reason").hidden = !reason;
  $("why").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  (reason ? $("why") : $("ask-yes")).focus();
  return new Promise((done) => {
    dialog.onclose = () => done(dialog.returnValue === "yes" ? { why: $("why").value.trim() } : null);
  });
}

// Enter in the reason means yes, not the first button.
$("why").onkeydown = (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    $("ask-yes").click();
  }
};

async function done(text, asked) {
  try {
    await asked;
    toast(text);
  } catch (error) {
    report(error);
  }
  showAudit(report);
}

async function pause() {
  const said = await ask("Pause the steering?", "The plan in force stays; nothing is pushed until somebody resumes. A retry storm is still damped.", "Pause", true);
  if (said) await done("Paused", call("Pause", "", said));
}

async function resume() {
  const said = await ask("Resume the steering?", "This ends a pause, a freeze and a hold.", "Resume");
  if (said) await done("Resumed", call("Resume"));
}

async function restore() {
  const said = await ask("Restore the operator's own weights and limits?", "By bounded steps; the steering is paused there.", "Restore");
  if (said) await done("Going back to the originals", call("Restore"));
}

async function undo(number) {
  const said = await ask(`Roll back to the plan of decision #${number}?`, "By bounded steps; the steering is paused there.", "Roll back");
  if (said) await done(`Going back to #${number}`, call("RollBack", `decisions/${number}`));
}

async function approve(one) {
  const said = await ask(`Approve decision #${one.number}?`, `${one.change_count} changes are pushed.`, "Approve");
  if (said) await done("Approved", call("Approve", `decisions/${one.number}`));
}

async function reject(one) {
  const said = await ask(`Reject decision #${one.number}?`, "Its plan is dropped, and none like it is proposed for a while.", "Reject", true);
  if (said) await done("Rejected", call("Reject", `decisions/${one.number}`, said));
}

async function setMode(mode) {
  const text = { observe: "Plans are recorded and shown; none is pushed.", approve: "Every plan waits for a yes.", auto: "What the guard passes is pushed without asking." }[mode];
  const said = await ask(`${MODES[mode]}?`, text, "Set the mode");
  if (said) await done(`Mode: ${MODES[mode].toLowerCase()}`, call("SetMode", "", { mode: `MODE_${mode.toUpperCase()}` }));
  page.steered = "";
  if (page.state) steering(page.state);
}

// Colours: as the system has them, or the other way round.

const THEMES = ["", "light", "dark"];
function paint(theme) {
  document.documentElement.dataset.theme = theme;
  $("theme").textContent = { "": "◐", light: "☀", dark: "☾" }[theme];
  $("theme").ariaLabel = `Colours: ${theme || "as the system has them"}`;
  $("theme").title = $("theme").ariaLabel;
  graph.wake?.();
  if (page.state) {
    graph.retarget(true);
    charts.draw();
    clusters.draw();
  }
}
$("theme").onclick = () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % 3];
  localStorage.setItem("theme", next);
  paint(next);
};
matchMedia("(prefers-color-scheme: dark)").onchange = () => paint(document.documentElement.dataset.theme ?? "");
paint(localStorage.getItem("theme") ?? "");

enter();
