// A record as a waterfall: connection, transaction, savepoints, statements, gaps, hooks.
import { el, time } from "./app.js";

const SVG = "http://www.w3.org/2000/svg";
const svg = (tag, attributes, ...children) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// The same statement has the same colour, whatever its values.
const hue = (text) => [...text].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7);

const bar = (total, at, seconds, kind, color) => {
  const left = (1000 * Math.max(0, at)) / total;
  const width = Math.max(3, (1000 * seconds) / total);
  const rect = svg("rect", { x: Math.min(left, 997), y: 1, width: Math.min(width, 1000 - Math.min(left, 997)), height: 10, rx: 1.5, class: kind });
  if (color !== undefined) rect.setAttribute("fill", `hsl(${color} 60% 52%)`);
  return svg("svg", { viewBox: "0 0 1000 12", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("line", { x1: 0, x2: 1000, y1: 6, y2: 6, class: "track" }), rect);
};

const line = (total, at, seconds, kind, label, where, more = {}) =>
  el("li", { class: `lane ${kind}` },
    el("div", { class: "label" }, el("b", {}, label), where ? el("code", {}, where) : null, more.note ? el("span", { class: "note" }, more.note) : null),
    bar(total, at, seconds, kind, more.color),
    el("span", { class: "took" }, time(seconds)),
    more.sql ? el("details", {}, el("summary", {}, "SQL"), el("pre", {}, more.sql), more.values ? el("pre", {}, more.values) : null) : null);

export const waterfall = (r) => {
  const total = Math.max(r.seconds, 1e-6);
  const rows = [];
  for (const w of r.waits) rows.push([w.at, 0, line(total, w.at, w.seconds, "wait", `wait for ${w.what}`, w.line, { note: [w.whom.length ? `held by ${w.whom.join("; ")}` : "", w.granted ? "" : "in vain"].filter(Boolean).join(", ") })]);
  for (const t of r.transactions) {
    const how = t.autocommit ? "autocommit" : "transaction";
    const kind = { committed: "good", "rolled back": "warn" }[t.outcome] ?? "bad";
    rows.push([t.at, 1, line(total, t.at, t.seconds, `transaction ${kind}`, `${how}, ${t.outcome}`, t.by_hand, { note: [t.by_hand !== null ? "by hand" : "", t.commit ? `COMMIT ${time(t.commit)}` : ""].filter(Boolean).join(", ") })]);
  }
  for (const s of r.savepoints) rows.push([s.at, 2, line(total, s.at, s.seconds, `savepoint ${s.outcome === "released" ? "good" : "warn"}`, `savepoint, ${s.outcome}`, s.line, { note: s.reason ?? "" })]);
  for (const s of r.sent) {
    const rowsTold = s.rows === null ? "" : `${s.rows} row${s.rows === 1 ? "" : "s"}`;
    rows.push([s.at, 3, line(total, s.at, s.seconds, s.error ? "statement bad" : "statement", `${s.kind} ${s.table ?? ""}`, s.line, { note: s.error ?? rowsTold, sql: s.sql, values: s.values, color: s.error ? undefined : hue(s.sql) })]);
  }
  for (const g of r.gaps) rows.push([g.at, 4, line(total, g.at, g.seconds, "gap", "idle, holding the connection", g.awaited ? `in ${g.awaited}` : null, { note: [g.after ? `after ${g.after}` : "", g.before ? `before ${g.before}` : ""].filter(Boolean).join(", ") })]);
  for (const h of r.hooks) rows.push([h.at, 5, line(total, h.at, h.seconds, h.error ? "hook bad" : "hook", `hook ${h.name}`, null, { note: h.error ?? "" })]);
  rows.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return el("section", { class: "waterfall" },
    el("h3", {}, "What happened, and when", el("small", {}, ` 0 to ${time(total)}`)),
    el("ol", {}, rows.map(([, , made]) => made)),
    r.more ? el("p", { class: "empty" }, `${r.more} more statements were only counted.`) : "");
};
