// The list of what has ended, the newest first.
import { state } from "./app.js";
import { chip, clock, el, many, redraw, status, time } from "./dom.js";

const SHOWN = 200;
const FILTERS = {
  all: ["Everything", () => true],
  disagrees: ["Answer and database disagree", (r) => r.disagrees],
  lost: ["Not stored", (r) => r.lost],
  waited: ["Waited", (r) => r.waited > 0.05],
  problems: ["Problems", (r) => r.problems > 0],
};
const chosen = { only: "all", text: "", paused: false, held: 0 };

const matches = (r) => FILTERS[chosen.only][1](r) && `${r.kind} ${r.name} ${r.status ?? ""} ${r.route} ${r.line} ${r.id}`.toLowerCase().includes(chosen.text.toLowerCase());

const says = (r) => r.problems || !/^read; \d+ statements?$/.test(r.line); // more than is said beside it
const row = (r) => el("li", { class: r.disagrees ? "disagrees" : null },
  el("a", { href: `#/r/${r.id}` },
    el("span", { class: "when" }, clock(r.began)),
    chip(r.outcome),
    el("span", { class: "name" }, r.kind === "request" ? null : el("em", {}, `${r.kind} `), r.name, " ", status(r.status)),
    el("span", { class: "took" }, `${time(r.seconds)}`, el("i", {}, many(r.statements, "statement"))),
    says(r) && el("span", { class: "told" }, r.line, r.problems ? chip(many(r.problems, "problem"), "warn") : null)));

const list = el("ol", { class: "records" });
const more = el("p", { class: "more" });
const tools = el("div", { class: "tools" });

const fill = () => {
  chosen.held = 0;
  const found = [...state.records.values()].reverse().filter(matches);
  redraw(list, found.slice(0, SHOWN).map(row));
  if (!found.length) list.append(el("li", { class: "empty" }, state.records.size ? "Nothing that this filter lets through." : "Nothing has used the database yet: each request, job and command that does will be a line here."));
  more.textContent = (found.length > SHOWN ? `The last ${SHOWN} of ${found.length}. ` : "") + (state.missed ? `${state.missed} more came too fast to be listed; Routes counts all.` : "");
};

const search = el("input", { type: "search", placeholder: "Filter: route, table, line, error …", "aria-label": "Filter", "data-key": "search",
  oninput: (event) => { chosen.text = event.target.value; fill(); } });

const setTools = () => {
  const all = [...state.records.values()];
  const choose = Object.entries(FILTERS).map(([name, [told, holds]]) => {
    const number = all.filter(holds).length;
    const alarm = name === "disagrees" && number;
    return el("a", { class: `pill${alarm ? " alarm" : ""}`, href: name === "all" ? "#/" : `#/live/${name}`, "aria-current": chosen.only === name ? "true" : null }, told, el("small", {}, ` ${number}`));
  });
  const pause = el("button", { type: "button", "data-key": "pause", "aria-pressed": String(chosen.paused),
    onclick: () => { chosen.paused = !chosen.paused; setTools(); if (!chosen.paused) fill(); } }, chosen.paused ? "Go on" : "Pause");
  const news = chosen.held ? el("button", { type: "button", class: "news", "data-key": "news", onclick: () => { scrollTo(0, 0); fill(); setTools(); } }, `↑ ${chosen.held} new`) : null;
  redraw(tools, search, el("nav", { class: "pills", "aria-label": "Filters" }, choose), pause, news);
};

export const live = (only = "all") => {
  chosen.only = only in FILTERS ? only : "all";
  setTools();
  fill();
  return [el("h2", { class: "hidden" }, "Live"), tools, list, more];
};

let waiting = false;
export const liveNews = (news) => { // who reads is not disturbed: what is new waits for a click
  if (!news.length) return;
  const reads = chosen.paused || scrollY > 150 || list.contains(document.activeElement);
  if (reads) chosen.held += news.filter(matches).length;
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; if (!reads) fill(); setTools(); });
};
