// The page: what is new comes by server-sent events; the rest is asked for.
import { waterfall } from "./waterfall.js";

const MOST = 1000;
const records = new Map(); // by number, oldest first
const view = document.getElementById("view");
const state = { now: null, paused: false, text: "", only: "all" };

export const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
};

export const time = (seconds) =>
  seconds >= 1 ? `${seconds.toFixed(2)} s` : seconds >= 0.0095 ? `${Math.round(seconds * 1000)} ms` : `${(seconds * 1000).toFixed(1)} ms`;

const CLASSES = {
  committed: "good", read: "calm", "rolled back": "warn", "COMMIT failed": "bad",
  "outcome unknown": "bad", "partly committed": "bad",
};
const chip = (outcome) => el("span", { class: `chip ${CLASSES[outcome] ?? "calm"}` }, outcome);
const ask = async (what) => {
  const answer = await fetch(`api/${what}`);
  return answer.ok ? answer.json() : null;
};

const FILTERS = {
  all: ["Everything", () => true],
  lost: ["Not stored", (r) => !["committed", "read"].includes(r.outcome)],
  disagrees: ["Answer and database disagree", (r) => r.disagrees],
  waited: ["Waited", (r) => r.waited > 0.05],
  problems: ["Problems", (r) => r.problems > 0],
};

// -- live -----------------------------------------------------------------------------------------

const shown = () => {
  const [, holds] = FILTERS[state.only];
  const words = state.text.toLowerCase();
  return [...records.values()].reverse().filter((r) => holds(r) && `${r.name} ${r.line} ${r.kind}`.toLowerCase().includes(words));
};

const row = (r) => el("li", { class: r.disagrees ? "disagrees" : null },
  el("a", { href: `#/r/${r.number}` },
    el("span", { class: "when" }, new Date(r.began * 1000).toLocaleTimeString()),
    el("span", { class: "name" }, r.kind === "request" ? "" : el("em", {}, r.kind), " ", r.name,
      r.status ? el("b", { class: r.status < 400 ? "" : "failed" }, ` ${r.status}`) : ""),
    chip(r.outcome),
    el("span", { class: "took" }, `${time(r.seconds)} · ${r.statements} stmt`),
    el("span", { class: "told" }, r.line, r.problems ? el("span", { class: "chip warn" }, `${r.problems} problem${r.problems > 1 ? "s" : ""}`) : null)));

const list = el("ol", { class: "records" });
const fill = () => {
  const found = shown().slice(0, 300);
  list.replaceChildren(...found.map(row));
  if (!found.length) list.append(el("li", { class: "empty" }, records.size ? "Nothing that this filter lets through." : "Nothing has used the database yet."));
};

const live = () => {
  const choose = Object.entries(FILTERS).map(([name, [told]]) => {
    const number = [...records.values()].filter(FILTERS[name][1]).length;
    return el("button", { type: "button", "aria-pressed": String(state.only === name), onclick: () => { state.only = name; draw(); } },
      told, el("small", {}, ` ${number}`));
  });
  const search = el("input", { type: "search", placeholder: "route, table, line …", "aria-label": "Filter", value: state.text,
    oninput: (event) => { state.text = event.target.value; fill(); } });
  const pause = el("button", { type: "button", "aria-pressed": String(state.paused), onclick: () => { state.paused = !state.paused; draw(); } },
    state.paused ? "Go on" : "Pause");
  view.replaceChildren(el("div", { class: "tools" }, search, ...choose, pause), list);
  fill();
};

// -- one record -----------------------------------------------------------------------------------

const facts = (pairs) => el("dl", {}, pairs.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
const amounts = (counted) => counted.map(([what, number]) => `${number} ${what}`).join(", ");

const details = async (number) => {
  const r = await ask(`records/${number}`);
  if (!r) {
    view.replaceChildren(el("p", { class: "empty" }, "That record is not kept any more."));
    return;
  }
  view.replaceChildren(
    el("p", {}, el("a", { href: "#/" }, "← all")),
    el("h2", {}, r.kind === "request" ? "" : `${r.kind}: `, r.name, r.status ? ` ${r.status} ` : " ", chip(r.outcome)),
    el("p", { class: r.disagrees ? "line disagrees" : "line" }, r.line),
    r.disagrees ? el("p", { class: "bad" }, "The answer says one thing, and the database another.") : "",
    facts([
      ["Route", r.route], ["Took", time(r.seconds)], ["Connection held", time(r.held)],
      ["Waited", r.waited ? time(r.waited) : null], ["Stored", amounts(r.stored)], ["Not stored", amounts(r.lost)],
      ["Never sent", amounts(r.pending)], ["Attempt", r.attempt > 1 || r.again ? `${r.attempt}${r.again ? ", done again" : ""} ${r.before.join(", ")}` : null],
      ["Flushed", r.flushed.map(([model, made, changed, gone]) => `${model}: ${made} new, ${changed} changed, ${gone} deleted`).join("; ")],
    ]),
    ...r.found.map(problem),
    waterfall(r));
};

const copy = (text) => el("button", { type: "button", class: "copy", onclick: async (event) => {
  await navigator.clipboard.writeText(text);
  event.target.textContent = "Copied";
} }, "Copy");

const problem = (p) => {
  const code = /`([^`]+)`/.exec(p.remedy);
  return el("section", { class: "problem" },
    el("h3", {}, el("span", { class: "chip warn" }, p.kind), " ", p.what, el("small", {}, p.times > 1 ? ` ${p.times} times` : "")),
    el("p", {}, p.remedy, p.line ? el("span", {}, " at ", el("code", {}, p.line)) : "", p.at && p.at !== p.line ? el("span", {}, "; it happens at ", el("code", {}, p.at)) : ""),
    code ? el("p", { class: "remedy" }, el("code", {}, code[1]), copy(code[1])) : "");
};

// -- now, routes, problems ------------------------------------------------------------------------

const now = () => {
  const n = state.now;
  if (!n) return view.replaceChildren(el("p", { class: "empty" }, "…"));
  const lines = (told, none) => (told.length ? el("ul", { class: "plain" }, told.map((each) => el("li", {}, each))) : el("p", { class: "empty" }, none));
  view.replaceChildren(
    el("h2", {}, "Who holds a connection"), lines(n.holders, "Nobody, at this moment."),
    el("h2", {}, "Who waits"), lines(n.waiting, "Nobody."),
    el("h2", {}, "Since the start"),
    el("table", {}, el("tbody", {}, Object.entries(n.counters).map(([name, number]) => el("tr", {}, el("th", { scope: "row" }, name.replaceAll("_", " ")), el("td", {}, number))))));
};

const percentile = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

const routes = () => {
  const groups = new Map();
  for (const r of records.values()) {
    const name = r.route ?? `${r.kind} ${r.kind === "request" ? r.name : r.name.replace(/^the scope opened at /, "")}`;
    groups.set(name, [...(groups.get(name) ?? []), r]);
  }
  const rows = [...groups].map(([name, all]) => {
    const took = all.map((r) => r.seconds).sort((a, b) => a - b);
    const lost = all.filter((r) => !["committed", "read"].includes(r.outcome));
    const worst = all.reduce((a, b) => (a.seconds > b.seconds ? a : b));
    return { name, all, lost, worst, p50: percentile(took, 0.5), p95: percentile(took, 0.95), each: all.reduce((sum, r) => sum + r.statements, 0) / all.length };
  }).sort((a, b) => b.p95 * b.all.length - a.p95 * a.all.length);
  view.replaceChildren(el("h2", {}, "Routes"), rows.length ? el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Routes" }, el("table", {},
    el("thead", {}, el("tr", {}, ["Route", "Times", "p50", "p95", "Statements each", "Not kept", "Since", "Slowest"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((g) => el("tr", {},
      el("th", { scope: "row" }, g.name), el("td", {}, g.all.length), el("td", {}, time(g.p50)), el("td", {}, time(g.p95)),
      el("td", {}, g.each.toFixed(1)),
      el("td", { class: g.lost.length ? "bad" : null }, g.lost.length ? `${Math.round((100 * g.lost.length) / g.all.length)} %` : "0"),
      el("td", {}, g.lost.length ? new Date(g.lost[0].began * 1000).toLocaleTimeString() : ""),
      el("td", {}, el("a", { href: `#/r/${g.worst.number}` }, time(g.worst.seconds)))))))) : el("p", { class: "empty" }, "Nothing yet."));
};

const problems = async () => {
  const found = (await ask("problems")) ?? [];
  view.replaceChildren(el("h2", {}, "Problems"), ...(found.length ? found.map(problem) : [el("p", { class: "empty" }, "None found.")]));
};

// -- the whole ------------------------------------------------------------------------------------

const draw = () => {
  const [, name, which] = (location.hash || "#/").split("/");
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.getAttribute("href") === `#/${name === "r" ? "" : name}`;
    if (is) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (name === "r") details(which);
  else ({ now, routes, problems }[name] ?? live)();
};

const keep = (r) => {
  records.delete(r.number);
  records.set(r.number, r);
  if (records.size > MOST) records.delete(records.keys().next().value);
};

let waiting = false;
const soon = () => { // a thousand records a second are drawn a few times
  if (waiting || state.paused) return;
  waiting = true;
  setTimeout(() => { waiting = false; const name = (location.hash || "#/").split("/")[1]; if (name === "") live(); else if (name === "routes") routes(); }, 250);
};

const listen = () => {
  const source = new EventSource("events");
  const pool = document.getElementById("pool");
  source.addEventListener("record", (event) => { keep(JSON.parse(event.data)); soon(); });
  source.addEventListener("now", (event) => {
    state.now = JSON.parse(event.data);
    const { pool: { out, size }, pid, waiting: who } = state.now;
    pool.textContent = `${out} of ${size} connections out${who.length ? `, ${who.length} waiting` : ""} · process ${pid}`;
    pool.className = who.length ? "bad" : "";
    if (location.hash === "#/now" && !state.paused) now();
  });
  source.addEventListener("error", () => { pool.textContent = "not connected; trying again"; });
};

addEventListener("hashchange", () => { draw(); view.focus(); });
for (const r of ((await ask("records")) ?? []).reverse()) keep(r);
state.now = await ask("now");
draw();
listen();
