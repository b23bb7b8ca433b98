// What is new comes by server-sent events, of all processes at once; the rest is asked for.
import { ask, el, redraw } from "./dom.js";
import { live, liveNews } from "./live.js";
import { migrations } from "./migrations.js";
import { now } from "./now.js";
import { problems } from "./problems.js";
import { record } from "./record.js";
import { routes } from "./routes.js";

const MOST = 2000; // records
export const state = { records: new Map(), processes: new Map(), missed: 0 };
const view = document.getElementById("view");
const pool = document.getElementById("pool");
const VIEWS = { "": live, now, routes, problems, migrations, r: record };
const AGAIN = { now: 1000, routes: 3000, problems: 5000 }; // milliseconds

const where = () => (location.hash || "#/").slice(2).split("/");

let drawn = 0;
const draw = async () => {
  const [name, ...rest] = where();
  const mine = ++drawn;
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.getAttribute("href") === `#/${name === "r" || name === "live" ? "" : name}`;
    if (is) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const made = await (VIEWS[name] ?? live)(...rest);
  if (mine === drawn) redraw(view, made);
};

const keep = (r) => {
  state.records.delete(r.id);
  state.records.set(r.id, r);
  if (state.records.size > MOST) state.records.delete(state.records.keys().next().value);
};

export const alive = () => [...state.processes.values()].filter((each) => each.now);

const tell = () => {
  const all = alive();
  const sum = (of) => all.reduce((number, each) => number + of(each.now), 0);
  const waiting = sum((each) => each.waiting.length);
  pool.replaceChildren(`${sum((each) => each.pool.out)} of ${sum((each) => each.pool.size)} `, el("span", {}, "connections "), `out${waiting ? `, ${waiting} waiting` : ""} · ${all.length} process${all.length === 1 ? "" : "es"}`);
  pool.className = waiting ? "bad" : "";
};

const look = (found) => {
  const ended = [...state.processes].filter(([, each]) => each.process.ended);
  state.processes = new Map([...ended, ...found.map((each) => [each.id, { id: each.id, process: each.process, database: each.database, now: each.now }])]);
  const news = found.flatMap((each) => each.records).sort((a, b) => a.began + a.seconds - b.began - b.seconds);
  news.forEach(keep);
  state.missed += found.reduce((sum, each) => sum + each.missed, 0);
  tell();
  if (["", "live"].includes(where()[0])) liveNews(news);
};

const listen = () => {
  const source = new EventSource("events");
  source.addEventListener("look", (event) => look(JSON.parse(event.data)));
  source.addEventListener("error", () => { pool.textContent = "not connected; trying again"; pool.className = "bad"; });
};

const again = async () => {
  const [name] = where();
  await new Promise((done) => setTimeout(done, AGAIN[name] ?? 1000));
  if (name in AGAIN && name === where()[0] && !document.hidden) await draw().catch(() => {});
  again();
};

addEventListener("hashchange", () => { draw(); view.focus({ preventScroll: true }); scrollTo(0, 0); });
ask("migrations").then((found) => { if (!found) document.querySelector('nav a[href="#/migrations"]').remove(); });
draw();
listen();
again();
