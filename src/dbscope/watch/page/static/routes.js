// Each route over the last half an hour: how long, how often it was rolled back, since when, and why.
import { ask, clock, el, empty, scroll, svg, time } from "./dom.js";

const MINUTES = 30;
const STEP = 1.1; // see dbscope/watch/tally.py

const percentile = (took, share) => {
  const sorted = [...took].sort((a, b) => a[0] - b[0]);
  let left = sorted.reduce((sum, [, number]) => sum + number, 0) * share;
  for (const [power, number] of sorted) { left -= number; if (left <= 0) return STEP ** power; }
  return 0;
};

const summed = (route) => {
  const took = new Map();
  const sum = { times: 0, lost: 0, disagree: 0, statements: 0 };
  for (const [, times, lost, disagree, statements, counted] of route.minutes) {
    sum.times += times; sum.lost += lost; sum.disagree += disagree; sum.statements += statements;
    for (const [power, number] of Object.entries(counted)) took.set(Number(power), (took.get(Number(power)) ?? 0) + number);
  }
  return { ...route, ...sum, p50: percentile(took, 0.5), p95: percentile(took, 0.95), p99: percentile(took, 0.99) };
};

const spark = (route, last) => {
  const most = Math.max(...route.minutes.map(([, times]) => times), 1);
  const bars = route.minutes.filter(([minute]) => minute > last - MINUTES).map(([minute, times, lost]) => {
    const x = (MINUTES - 1 - (last - minute)) * 4;
    const tall = Math.max(2, (22 * times) / most), bad = lost ? Math.max(2, (22 * lost) / most) : 0;
    return [svg("rect", { x, y: 24 - tall, width: 3, height: tall, class: "kept" }), bad ? svg("rect", { x, y: 24 - bad, width: 3, height: bad, class: "lost" }) : null];
  });
  return svg("svg", { class: "spark", viewBox: `0 0 ${MINUTES * 4} 24`, preserveAspectRatio: "none", role: "img", "aria-label": `by minute: ${route.minutes.map(([minute, times, lost]) => `${clock(minute * 60, false)} ${times}${lost ? `, ${lost} not stored` : ""}`).slice(-5).join("; ")}` }, svg("line", { x1: 0, x2: MINUTES * 4, y1: 23.5, y2: 23.5, class: "grid" }), bars);
};

const share = (part, whole) => { const found = (100 * part) / whole; return `${found >= 10 || found === 0 ? Math.round(found) : found.toFixed(1)} %`; };
const cell = (label, attributes, ...told) => el("td", { "data-label": label, ...attributes }, told);

const row = (last) => (r) => el("tr", {},
  el("th", { scope: "row" }, r.name, r.reasons.length ? el("ul", {}, r.reasons.map(([reason, number]) => el("li", {}, `${number} × ${reason}`))) : null),
  cell("by minute", { class: "wide" }, spark(r, last)),
  cell("times", {}, r.times), cell("p50", {}, time(r.p50)), cell("p95", {}, time(r.p95)), cell("p99", {}, time(r.p99)),
  cell("slowest", {}, el("a", { href: `#/r/${r.slowest[0]}` }, time(r.slowest[1]))),
  cell("statements", {}, (r.statements / r.times).toFixed(1)),
  cell("not stored", { class: r.lost ? "bad" : null }, r.lost ? [el("b", {}, share(r.lost, r.times)), el("br"), el("small", {}, `since ${clock(r.since)}`)] : "none"),
  cell("disagree", { class: r.disagree ? "bad" : null }, r.disagree ? el("a", { href: "#/live/disagrees" }, r.disagree) : "none"));

export const routes = async () => {
  const found = ((await ask("routes")) ?? []).map(summed).filter((each) => each.times).sort((a, b) => b.p95 * b.times - a.p95 * a.times);
  const last = Math.floor(Date.now() / 60000);
  const heads = ["Route", "Last 30 minutes", "Times", "p50", "p95", "p99", "Slowest", "Statements", "Not stored", "Disagree"];
  return [el("h2", {}, "Routes", el("small", {}, " what costs most comes first; the last 30 minutes, all processes")),
    found.length ? scroll("Routes", el("table", { class: "routes" }, el("thead", {}, el("tr", {}, heads.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, found.map(row(last))))) : empty("Nothing yet.")];
};
