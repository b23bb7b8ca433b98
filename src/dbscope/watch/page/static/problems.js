// What was found, with the remedy to paste.
import { ask, chip, copy, el, empty, many } from "./dom.js";

const remedy = (told) => { // what is between backticks can be pasted
  const [before, code, after] = told.split(/`([^`]+)`/);
  return [before, code ? [el("code", {}, code), " ", copy(code)] : null, after];
};

export const problem = (p, { small = false } = {}) => el("section", { class: small ? "problem bare" : "problem" },
  el("h3", {}, chip(p.kind, "warn"), " ", p.kind === "duplicate read" ? el("code", {}, p.what) : p.what, p.times > 1 ? el("small", {}, ` ${p.times} times in one piece of work`) : null),
  el("p", { class: "remedy" }, remedy(p.remedy)),
  el("p", { class: "note" }, p.line ? ["at ", el("code", {}, p.line)] : null, p.at && p.at !== p.line ? [p.line ? "; " : "", "it happens at ", el("code", {}, p.at)] : null,
    p.seen ? `; in ${many(p.seen, "record")}: ${p.routes.join(", ")}` : null));

export const problems = async () => {
  const found = (await ask("problems")) ?? [];
  return [el("h2", {}, "Problems", el("small", {}, " what is in most records comes first")), found.length ? found.map((each) => problem(each)) : empty("None was found in the records that are kept.")];
};
