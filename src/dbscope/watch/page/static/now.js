// What goes on: who holds a connection, who waits for whom, and the pool over time.
import { alive, state } from "./app.js";
import { ask, chip, clock, el, empty, many, scroll, svg, time } from "./dom.js";

const SECONDS = 600;
const WIDE = 1200, TALL = 120;

const path = (points) => points.map(([x, y], number) => `${number ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const steps = (values, most, x) => values.flatMap(([second, value]) => { const y = TALL - (TALL * value) / most; return [[x(second), y], [x(second + 1), y]]; });

const chart = (seconds) => {
  if (!seconds.length) return empty("Nothing yet.");
  const last = seconds.at(-1)[0] + 1;
  const length = Math.min(SECONDS, Math.max(60, last - seconds[0][0])), first = last - length;
  const shown = seconds.filter(([second]) => second >= first);
  const most = Math.max(...shown.map(([, out, size, waiting]) => Math.max(size, out, waiting)), 1);
  const peak = shown.reduce((a, b) => (b[1] > a[1] ? b : a));
  const waited = shown.filter(([, , , waiting]) => waiting);
  const worst = waited.reduce((a, b) => (b[3] > a[3] ? b : a), [0, 0, 0, 0]);
  const x = (second) => (WIDE * (second - first)) / length;
  const out = steps(shown.map(([second, number]) => [second, number]), most, x);
  const area = `${path(out)}L${x(last)} ${TALL}L${x(shown[0][0])} ${TALL}Z`;
  const marks = [0, 0.2, 0.4, 0.6, 0.8, 1].map((part) => first + part * length);
  const told = `At most ${peak[1]} of ${peak[2]} connections were out, at ${clock(peak[0])}. ` + (waited.length ? `In ${many(waited.length, "second")} somebody waited; most of all ${worst[3]}, at ${clock(worst[0])}.` : "Nobody had to wait.");
  return el("figure", { class: "chart" },
    svg("svg", { viewBox: `0 -4 ${WIDE} ${TALL + 8}`, preserveAspectRatio: "none", role: "img", "aria-label": told },
      marks.map((at) => svg("line", { x1: x(at), x2: x(at), y1: 0, y2: TALL, class: "grid" })),
      svg("path", { d: area, class: "area" }), svg("path", { d: path(out), class: "out" }),
      waited.map(([second, , , waiting]) => svg("rect", { x: x(second), width: Math.max(2, WIDE / length), y: TALL - (TALL * waiting) / most, height: (TALL * waiting) / most, class: "waiting" })),
      svg("path", { d: path(steps(shown.map(([second, , size]) => [second, size]), most, x)), class: "size" })),
    el("div", { class: "times", "aria-hidden": "true" }, marks.map((at) => el("span", {}, clock(at, length < 300)))),
    el("figcaption", {}, el("span", { class: "key out" }, "out"), el("span", { class: "key waiting" }, "waiting"), el("span", { class: "key size" }, "in the pool"), el("span", {}, told)));
};

const doing = (h) => (h.doing === "idle" ? ["for ", el("b", { class: h.seconds > 1 ? "bad" : null }, time(h.seconds)), h.line ? [" after ", el("code", {}, h.line)] : null, h.awaited ? [", in ", el("code", {}, h.awaited)] : null]
  : [`for `, el("b", {}, time(h.seconds)), h.line ? [" at ", el("code", {}, h.line)] : null]);
const who = (each, process) => [each.kind === "request" ? null : el("em", {}, `${each.kind} `), each.name, state.processes.size > 1 ? el("small", {}, ` process ${process.pid}`) : null];

const table = (label, heads, rows) => scroll(label, el("table", { class: "stack" }, el("thead", {}, el("tr", {}, heads.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows)));

const holders = (all) => {
  const held = all.flatMap((p) => p.now.holders.map((h) => ({ ...h, process: p.process }))).sort((a, b) => b.held - a.held);
  return held.length ? table("Who holds a connection", ["Who", "For", "What it does with it"], held.map((h) => el("tr", {}, el("th", { scope: "row" }, who(h, h.process)), el("td", {}, time(h.held)), el("td", { class: "why" }, h.doing === "idle" ? chip("idle", h.seconds > 1 ? "warn" : "calm") : chip(h.doing, "good"), " ", doing(h))))) : empty("Nobody, at this moment.");
};
// Of another worker the server knows only its process: who that is, the worker itself has said.
const named = (told, all) => {
  const server = Number(/\(process (\d+), /.exec(told)?.[1]);
  const held = server && all.flatMap((p) => p.now.holders.map((h) => ({ ...h, process: p.process }))).find((h) => h.server === server);
  return held ? [el("b", {}, who(held, held.process)), " ", chip(held.doing, held.doing === "idle" ? "warn" : "good"), " ", doing(held)] : told;
};
const waiters = (all) => {
  const found = all.flatMap((p) => p.now.waiting.map((w) => ({ ...w, process: p.process }))).sort((a, b) => b.seconds - a.seconds);
  return found.length ? table("Who waits", ["Who", "For", "What", "Held by"], found.map((w) => el("tr", {}, el("th", { scope: "row" }, who(w, w.process)), el("td", { class: "bad" }, time(w.seconds)), el("td", { class: "why" }, w.what, w.line ? [" at ", el("code", {}, w.line)] : null), el("td", { class: "why" }, w.whom.map((each) => el("div", {}, named(each, all))))))) : empty("Nobody.");
};
const processes = () => table("Processes", ["Process", "Connections", "Records", "Since"], [...state.processes.values()].map((p) => el("tr", {},
  el("th", { scope: "row" }, `${p.process.pid} `, el("small", {}, p.process.name)),
  el("td", {}, p.now ? `${p.now.pool.out} of ${p.now.pool.size} out` : p.process.ended ? "has ended" : el("b", { class: "bad" }, "does not answer")),
  el("td", {}, [...state.records.keys()].filter((id) => id.startsWith(`${p.id}.`)).length),
  el("td", {}, p.process.began ? clock(p.process.began) : ""))));

const counters = (all) => {
  const sum = {};
  for (const p of all) for (const [name, number] of Object.entries(p.now.counters)) sum[name] = (sum[name] ?? 0) + number;
  return el("dl", { class: "facts" }, Object.entries(sum).filter(([name]) => !name.startsWith("pool_")).map(([name, number]) => el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, number.toLocaleString()))));
};

export const now = async () => {
  const seconds = (await ask("pool")) ?? [];
  const all = alive();
  return [el("h2", {}, "The pool", el("small", {}, " of the last ten minutes, all processes")), chart(seconds),
    el("h2", {}, "Who holds a connection"), holders(all), el("h2", {}, "Who waits, and for whom"), waiters(all),
    el("h2", {}, "Processes"), processes(), el("h2", {}, "Since the start"), counters(all)];
};
