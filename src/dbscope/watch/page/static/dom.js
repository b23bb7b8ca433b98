// Elements, and how things are told.
const fill = (made, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return made;
};
export const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

// What is drawn anew keeps the focus where it was.
export const redraw = (place, ...children) => {
  const active = document.activeElement;
  const key = place.contains(active) ? active.getAttribute("href") ?? active.dataset.key : null;
  place.replaceChildren(...children.flat(3).filter(Boolean));
  if (key) [...place.querySelectorAll("a[href], [data-key]")].find((each) => (each.getAttribute("href") ?? each.dataset.key) === key)?.focus({ preventScroll: true });
};

export const time = (seconds) =>
  seconds >= 60 ? `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`
  : seconds >= 1 ? `${seconds.toFixed(seconds >= 10 ? 1 : 2)} s`
  : seconds >= 0.0095 ? `${Math.round(seconds * 1000)} ms` : `${(seconds * 1000).toFixed(1)} ms`;
const two = (number) => String(number).padStart(2, "0");
export const clock = (epoch, seconds = true) => {
  const at = new Date(epoch * 1000);
  return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
};
export const day = (epoch) => {
  const at = new Date(epoch * 1000);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(epoch)}`;
};
export const many = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

const CLASSES = { committed: "good", read: "calm", "nothing sent": "calm", "rolled back": "warn", "COMMIT failed": "bad", "outcome unknown": "bad", "partly committed": "bad" };
export const tone = (outcome) => CLASSES[outcome] ?? "calm";
export const chip = (told, kind) => el("span", { class: `chip ${kind ?? tone(told)}` }, told);
export const status = (code) => (code ? el("b", { class: code < 400 ? "status" : "status failed" }, code) : null);
export const empty = (told) => el("p", { class: "empty" }, told);
export const scroll = (label, ...inside) => el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, inside);

export const ask = async (what) => {
  const answer = await fetch(`api/${what}`);
  return answer.ok ? answer.json() : null;
};
export const copy = (text) => el("button", { type: "button", class: "small", onclick: async (event) => {
  await navigator.clipboard.writeText(text);
  event.target.textContent = "Copied";
} }, "Copy");
