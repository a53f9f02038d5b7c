// The decisions of before, newest first, and who asked for what.

import { $, clock, el } from "./format.js";
import { badge, body, told } from "./decision.js";
import { call, list } from "./server.js";

const MOST = 400;

export class Log {
  /** undo: asked to go back to a decision's plan; may: whether the visitor may. */
  constructor(undo, may, report) {
    Object.assign(this, { undo, may, report, newest: 0, token: "" });
    $("older").onclick = () => this.older();
    $("moves").onchange = () => $("log").classList.toggle("only-moves", $("moves").checked);
  }

  async start() {
    $("log").replaceChildren();
    this.newest = 0;
    this.token = "";
    await this.older();
  }

  async older() {
    const found = await list("ListDecisions", { page_size: 12, ...(this.token && { page_token: this.token }) }).catch(this.report);
    if (!found) return;
    for (const message of found.decisions ?? []) {
      const one = told(message);
      if (!this.newest) this.newest = one.number;
      $("log").append(this.item(one));
    }
    this.token = found.next_page_token ?? "";
    $("older").hidden = !this.token;
  }

  add(decision) {
    if (decision.number <= this.newest) return;
    this.newest = decision.number;
    $("log").prepend(this.item(decision));
    while ($("log").children.length > MOST) $("log").lastElementChild.remove();
  }

  item(one) {
    const inside = el("div", { className: "inside" });
    const details = el("details", {},
      el("summary", {}, el("span", { className: "number", textContent: `#${one.number}` }), el("time", { textContent: clock(one.time) }), badge(one.action), el("span", { className: "why", textContent: one.why })),
      inside,
    );
    details.ontoggle = () => details.open && !inside.children.length && this.fill(one, inside);
    return el("li", { className: ["push", "rollback"].includes(one.action) ? "moved" : "still" }, details);
  }

  async fill(one, inside) {
    const message = await call("GetDecision", `decisions/${one.number}`).catch(this.report);
    if (!message) return;
    const whole = told(message);
    inside.replaceChildren(el("p", { textContent: whole.why }), ...body(whole));
    if (this.may() && !["recommend", "await"].includes(whole.action)) {
      inside.append(el("button", { type: "button", className: "quiet", textContent: `Roll back to the plan of #${one.number}`, onclick: () => this.undo(one.number) }));
    }
  }
}

export async function showAudit(report) {
  const found = await list("ListAuditEntries", { page_size: 12 }).catch(report);
  if (!found) return;
  const entries = (found.audit_entries ?? []).map((e) => {
    const fine = e.outcome === "ok";
    const said = e.detail?.why || e.detail?.mode || (e.detail?.number ? `#${Number(e.detail.number)}` : "");
    return el("li", { className: fine ? "" : "refused" },
      el("time", { textContent: clock(Date.parse(e.time) / 1000) }), " ", el("b", { textContent: e.who }), ` ${e.action}${said ? `: ${said}` : ""}`,
      fine ? null : el("span", { className: "note", textContent: ` refused: ${e.outcome}` }));
  });
  $("audit").replaceChildren(...(entries.length ? entries : [el("li", { className: "note", textContent: "Nobody has asked for anything yet." })]));
}
