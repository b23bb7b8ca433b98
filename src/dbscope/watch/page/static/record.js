// One record: what it says, and what happened when.
import { ask, chip, day, el, empty, many, status, svg, time } from "./dom.js";
import { problem } from "./problems.js";

const amounts = (counted) => counted.map(([what, number]) => `${number} ${what}`).join(", ");
const facts = (pairs) => el("dl", { class: "facts" }, pairs.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));

const sides = (r) => el("section", { class: "sides", "aria-label": "Answer and database disagree" },
  el("div", {}, el("h3", {}, "The client was told"), el("p", { class: "big" }, status(r.status), ` ${r.status < 400 ? "it worked" : "it failed"}`)),
  el("div", {}, el("h3", {}, "The database has"), el("p", { class: "big" }, chip(r.outcome)), el("p", {}, [
    r.not_stored.length ? `not stored: ${amounts(r.not_stored)}` : "", r.pending.length ? `never sent: ${amounts(r.pending)}` : "", r.stored.length ? `stored: ${amounts(r.stored)}` : ""].filter(Boolean).join("; "))));

export const record = async (id) => {
  const r = await ask(`records/${id}`);
  const back = el("p", { class: "back" }, el("a", { href: "#/" }, "← Live"));
  if (!r) return [back, empty("That record is not kept any more: the last 500 of each process are.")];
  return [
    back,
    el("h2", {}, r.kind === "request" ? null : el("em", {}, `${r.kind} `), r.name, " ", status(r.status), " ", chip(r.outcome)),
    el("p", { class: r.disagrees ? "line disagrees" : "line" }, r.line),
    r.disagrees ? sides(r) : null,
    facts([
      ["Began", day(r.began)], ["Took", time(r.seconds)], ["Held a connection", time(r.held)],
      ["Waited", r.waited ? time(r.waited) : null], ["Route", r.route !== r.name ? r.route : null],
      ["Stored", amounts(r.stored)], ["Not stored", amounts(r.not_stored)], ["Never sent", amounts(r.pending)],
      ["Attempt", r.attempt > 1 || r.again ? `${r.attempt}${r.again ? ", done again" : ""} ${r.before.join(", ")}` : null],
      ["Flushed", r.flushed.map(([model, made, changed, gone]) => `${model}: ${[made && `${made} new`, changed && `${changed} changed`, gone && `${gone} deleted`].filter(Boolean).join(", ")}`).join("; ")],
      ["Process", r.id.split("-")[0]],
    ]),
    r.found.map((each) => problem(each, { small: true })),
    waterfall(r),
  ];
};

// -- the waterfall --------------------------------------------------------------------------------

const WIDE = 1000;
const hue = (text) => [...text].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 7); // the same statement, the same colour

const ticks = (total) => {
  const step = [1, 2, 2.5, 5, 10].map((each) => each * 10 ** Math.floor(Math.log10(total / 4))).find((each) => total / each <= 5);
  return Array.from({ length: Math.floor(total / step) + 1 }, (_, number) => number * step);
};

const bars = (total, spans, kind, color) => {
  const rects = spans.map(([at, seconds]) => {
    const left = Math.min((WIDE * Math.max(0, at)) / total, WIDE - 3);
    const rect = svg("rect", { x: left.toFixed(1), y: 2, width: Math.max(3, Math.min((WIDE * seconds) / total, WIDE - left)).toFixed(1), height: 10, class: kind });
    if (color !== undefined) rect.setAttribute("fill", `hsl(${color} 55% 52%)`);
    return rect;
  });
  const grid = ticks(total).map((at) => svg("line", { x1: (WIDE * at) / total, x2: (WIDE * at) / total, y1: 0, y2: 14, class: "grid" }));
  return svg("svg", { class: "bars", viewBox: `0 0 ${WIDE} 14`, preserveAspectRatio: "none", "aria-hidden": "true" }, grid, rects);
};

const axis = (total) => {
  const at = ticks(total);
  return el("li", { class: "axis", "aria-hidden": "true" }, el("div", { class: "lane" }, el("span", {}),
    svg("svg", { class: "axis" }, at.map((each, number) => svg("text", { x: `${(100 * each) / total}%`, y: 11, "text-anchor": number === 0 ? "start" : each / total > 0.93 ? "end" : "middle" }, each === 0 ? "0" : time(each)))), el("span", {})));
};

const explain = (id, place) => {
  const told = el("div", { "aria-live": "polite" });
  const button = el("button", { type: "button", class: "small", onclick: async () => {
    button.disabled = true;
    const answer = await fetch("api/plan", { method: "POST", headers: { "x-dbscope-watch": "1" }, body: JSON.stringify({ id, place }) });
    const found = answer.ok || answer.status === 404 ? await answer.json() : { refused: "It may not be asked here." };
    told.replaceChildren(found.plan ? el("pre", {}, found.plan.join("\n")) : el("p", { class: "note" }, found.refused));
    button.disabled = false;
  } }, "Explain");
  return [button, el("span", { class: "note" }, " asks the database how it would do this, without doing it"), told];
};

const lane = (total, kind, spans, label, where, more = {}) => {
  const told = [el("b", {}, label), more.times > 1 ? chip(`× ${more.times}`, "calm") : null, where ? el("code", {}, where) : null, more.note ? el("span", { class: "note" }, more.note) : null];
  const took = spans.reduce((sum, [, seconds]) => sum + seconds, 0);
  const row = [el("span", { class: "label" }, told), bars(total, spans, kind, more.color), el("span", { class: "took" }, time(took))];
  return el("li", { class: kind }, more.sql
    ? el("details", {}, el("summary", { class: "lane" }, row), el("div", { class: "sql" }, el("pre", {}, more.sql), more.values ? el("pre", {}, more.values) : null, more.explain))
    : el("div", { class: "lane" }, row));
};

// The same statement from the same line, again and again, is one lane: that is how N+1 looks.
const grouped = (sent) => {
  const groups = [];
  sent.forEach((each, place) => {
    const last = groups.at(-1);
    if (last && !each.error && !last.first.error && last.first.sql === each.sql && last.first.line === each.line && last.first.savepoint === each.savepoint) last.all.push(each);
    else groups.push({ first: each, place, all: [each] });
  });
  return groups;
};

const waterfall = (r) => {
  const total = Math.max(r.seconds, 1e-6);
  const rows = [];
  const add = (at, depth, made) => rows.push([at, depth, made]);
  for (const w of r.waits) add(w.at, 0, lane(total, "wait", [[w.at, w.seconds]], `waited for ${w.what}${w.granted ? "" : ", in vain"}`, w.line, { note: w.whom.length ? `held by ${w.whom.join("; ")}` : "" }));
  for (const t of r.transactions) {
    const kind = { committed: "good", "rolled back": "warn" }[t.outcome] ?? "bad";
    const note = [t.by_hand !== null ? "by hand" : "", t.commit ? `COMMIT took ${time(t.commit)}` : ""].filter(Boolean).join(", ");
    add(t.at, 1, lane(total, `transaction ${kind}`, [[t.at, t.seconds]], `${t.autocommit ? "autocommit" : "transaction"}, ${t.outcome}`, t.by_hand, { note }));
  }
  for (const s of r.savepoints) add(s.at, 2, lane(total, `savepoint ${s.outcome === "released" ? "good" : "warn"}`, [[s.at, s.seconds]], `savepoint, ${s.outcome}`, s.line, { note: s.reason ?? "" }));
  for (const { first: s, place, all } of grouped(r.sent)) {
    const known = all.filter((each) => each.rows !== null);
    const sum = known.reduce((number, each) => number + each.rows, 0);
    add(s.at, 3, lane(total, s.error ? "statement bad" : "statement", all.map((each) => [each.at, each.seconds]), `${s.kind} ${s.table ?? ""}`, s.line,
      { note: s.error ?? (known.length ? many(sum, "row") : ""), times: all.length, sql: s.sql, values: s.values, color: s.error ? undefined : hue(s.sql), explain: s.kind === "SELECT" ? explain(r.id, place) : null }));
  }
  for (const g of r.gaps) add(g.at, 4, lane(total, "gap", [[g.at, g.seconds]], "idle, holding the connection", g.awaited ? `in ${g.awaited}` : null, { note: [g.after ? `after ${g.after}` : "", g.before ? `before ${g.before}` : ""].filter(Boolean).join(", ") }));
  for (const h of r.hooks) add(h.at, 5, lane(total, h.error ? "hook bad" : "hook", [[h.at, h.seconds]], `hook ${h.name}`, null, { note: h.error ?? "after COMMIT" }));
  rows.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  return el("section", { class: "waterfall" }, el("h3", {}, "What happened, and when"), el("ol", {}, axis(total), rows.map(([, , made]) => made)),
    r.more ? empty(`${r.more} more statements were only counted.`) : null);
};
