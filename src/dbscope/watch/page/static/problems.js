// What was found, with the remedy to paste.
import { ask, chip, copy, el, empty, many } from "./dom.js";

export const problem = (p, { small = false } = {}) => {
  const code = /`([^`]+)`/.exec(p.remedy);
  const before = code ? p.remedy.slice(0, code.index).replace(/,\s*$/, "").trim() : p.remedy;
  return el("section", { class: small ? "problem small" : "problem" },
    el("h3", {}, chip(p.kind, "warn"), " ", p.what, p.times > 1 ? el("small", {}, ` ${p.times} times in one piece of work`) : null),
    el("p", {}, before, p.line ? [" at ", el("code", {}, p.line)] : null, p.at && p.at !== p.line ? ["; it happens at ", el("code", {}, p.at)] : null),
    code ? el("p", { class: "remedy" }, el("code", {}, code[1]), copy(code[1])) : null,
    p.seen ? el("p", { class: "note" }, `in ${many(p.seen, "record")}: ${p.routes.join(", ")}`) : null);
};

export const problems = async () => {
  const found = (await ask("problems")) ?? [];
  return [el("h2", {}, "Problems", el("small", {}, " what is in most records comes first")), found.length ? found.map((each) => problem(each)) : empty("None was found in the records that are kept.")];
};
