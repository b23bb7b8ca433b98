// At which revision the database is, and what is pending.
import { ask, chip, day, el, empty } from "./dom.js";

const row = (r) => el("li", { class: r.state },
  el("span", { class: "dot", "aria-hidden": "true" }),
  el("div", {}, el("b", {}, r.message), " ", r.is_current ? chip("the database is here", "good") : null, r.state === "pending" ? chip("pending", "warn") : null,
    el("p", { class: "note" }, el("code", {}, r.id), ...r.branches.map((name) => ` ${name}`), r.written ? ` · written ${r.written}` : "", r.applied ? ` · applied ${day(r.applied.at)} by ${r.applied.by}` : "")));

export const migrations = async () => {
  const found = await ask("migrations");
  const head = el("h2", {}, "Migrations", el("small", {}, " newest first"));
  if (!found) return [head, empty("The page was mounted without `migrations=`.")];
  const pending = found.revisions.filter((each) => each.state === "pending").length;
  const told = found.refused ?? (found.unknown.length ? `The database is ahead: it has ${found.unknown.join(", ")}, of which there is no file here.`
    : found.unversioned ? "The database has tables, and no version." : pending ? `The database is behind by ${pending}: dbscope upgrade` : "The database is up to date.");
  const bad = found.refused || found.unknown.length || found.unversioned || pending;
  const undated = found.revisions.some((each) => each.state === "applied" && !each.applied);
  return [head, el("p", { class: bad ? "line disagrees" : "line good" }, told), el("ol", { class: "revisions" }, found.revisions.map(row)),
    undated ? el("p", { class: "note" }, "Where no time is told, it is not known: Alembic's table has none. dbscope notes it on this machine, once somebody has watched the database.") : null];
};
