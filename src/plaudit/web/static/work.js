// A task: the spoken order, keys, comparing two, drafts that save themselves, the lease. The page works without all this.

import { Draft } from "./draft.js";
import { keepLease } from "./lease.js";
import { Tiers } from "./tiers.js";

const root = document.querySelector(".work");
const form = document.getElementById("work");
const answers = [...document.querySelectorAll(".answer")];
const help = document.getElementById("help");

// --- the order in words ---------------------------------------------------------------------------------------------

const rankOf = (answer) => Number(answer.querySelector(".ranks input:checked")?.value ?? 0);

function orderInWords() {
  const ranked = answers.filter(rankOf).sort((a, b) => rankOf(a) - rankOf(b));
  const words = ranked.map((answer, i) => {
    if (i === 0) return answer.dataset.letter;
    return `${rankOf(answer) === rankOf(ranked[i - 1]) ? "=" : ">"} ${answer.dataset.letter}`;
  });
  const missing = answers.filter((answer) => !rankOf(answer)).map((answer) => answer.dataset.letter);
  if (missing.length === answers.length) return "Nothing ranked yet";
  return words.join(" ") + (missing.length ? `; ${missing.join(", ")} to go` : "");
}

function showOrder() {
  const order = document.getElementById("order");
  if (!order) return;
  const words = orderInWords();
  if (order.textContent !== words) order.textContent = words;
  tiers.draw(Object.fromEntries(answers.filter(rankOf).map((answer) => [answer.dataset.letter, rankOf(answer)])));
}

function setRanks(ranks) {
  for (const answer of answers) {
    for (const radio of answer.querySelectorAll(".ranks input")) radio.checked = Number(radio.value) === ranks[answer.dataset.letter];
  }
  form.dispatchEvent(new Event("change", { bubbles: true }));
}

const tiers = answers.length
  ? new Tiers(root, answers, { ranked: setRanks, show: (letter) => goTo(answers.findIndex((answer) => answer.dataset.letter === letter)) })
  : null;

// --- keys -----------------------------------------------------------------------------------------------------------

const inTextField = (target) => target.matches?.("textarea, select, input:not([type=radio], [type=checkbox]), [contenteditable]");
let current = -1;

function goTo(index) {
  current = index;
  answers.forEach((answer, i) => answer.classList.toggle("current", i === index));
  const answer = answers[index];
  (answer.querySelector(".ranks input:checked") ?? answer.querySelector(".ranks input")).focus({ preventScroll: true });
  if (answer.hidden) compare([]);
  const box = answer.getBoundingClientRect();
  if (box.top < 0 || box.top > window.innerHeight * 0.7) answer.scrollIntoView({ block: "start" });
}

function rank(digit) {
  const index = current < 0 ? 0 : current;
  const radio = answers[index].querySelectorAll(".ranks input")[digit - 1];
  radio.checked = true;
  radio.dispatchEvent(new Event("change", { bubbles: true }));
  const after = answers.map((_, i) => (index + 1 + i) % answers.length).find((i) => !rankOf(answers[i]));
  goTo(after ?? index);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    if (!help.open && !event.repeat) form.requestSubmit(document.getElementById("submit"));
    return;
  }
  const plain = !event.ctrlKey && !event.metaKey && !event.altKey && !event.isComposing;
  if (root.dataset.shortcuts !== "on" || !plain || help.open || inTextField(event.target)) return;
  const letter = answers.findIndex((answer) => answer.dataset.letter.toLowerCase() === event.key.toLowerCase());
  if (event.key === "?") help.showModal();
  else if (letter >= 0) goTo(letter);
  else if (answers.length && event.key >= "1" && event.key <= String(answers.length)) rank(Number(event.key));
  else if (answers.length && event.key.toLowerCase() === "n") document.getElementById("none").click();
  else return;
  event.preventDefault();
});

const helpButton = document.getElementById("help-open");
helpButton.hidden = false;
helpButton.addEventListener("click", () => help.showModal());
for (const [i, answer] of answers.entries()) {
  answer.addEventListener("focusin", () => {
    current = i;
    answers.forEach((other) => other.classList.toggle("current", other === answer));
  });
}

// --- comparing two --------------------------------------------------------------------------------------------------

const compareBox = document.getElementById("compare");
let pinned = [];

function compare(letters) {
  pinned = letters.slice(-2);
  for (const answer of answers) answer.hidden = pinned.length === 2 && !pinned.includes(answer.dataset.letter);
  answers[0].parentElement.classList.toggle("pair", pinned.length === 2);
  for (const button of compareBox?.querySelectorAll("[data-letter]") ?? []) {
    button.setAttribute("aria-pressed", String(pinned.includes(button.dataset.letter)));
  }
}

if (compareBox) {
  compareBox.hidden = false;
  for (const button of compareBox.querySelectorAll("[data-letter]")) {
    const letter = button.dataset.letter;
    button.addEventListener("click", () =>
      compare(pinned.includes(letter) ? pinned.filter((other) => other !== letter) : [...pinned, letter]),
    );
  }
  document.getElementById("compare-all").addEventListener("click", () => compare([]));
}

// --- time with the page in front and in use -------------------------------------------------------------------------

const IDLE_MS = 30_000;
const clockKey = `plaudit-active-${root.dataset.assignment}`;
let active = Number(sessionStorage.getItem(clockKey) ?? 0);
let lastUse = performance.now();
let lastTick = lastUse;
for (const kind of ["pointermove", "pointerdown", "keydown", "scroll"]) {
  document.addEventListener(kind, () => (lastUse = performance.now()), { passive: true, capture: true });
}
const inUse = () => document.visibilityState === "visible" && performance.now() - lastUse < IDLE_MS;
setInterval(() => {
  const now = performance.now();
  if (inUse()) active += Math.min(now - lastTick, 2_000); // a suspended machine must not count its sleep
  lastTick = now;
  sessionStorage.setItem(clockKey, String(Math.round(active)));
}, 1_000);

// --- drafts, lease, submit ------------------------------------------------------------------------------------------

const editing = root.dataset.editing === "yes";
const draft = editing ? null : new Draft(root, form);
if (!editing) keepLease(root, inUse);

form.addEventListener("change", showOrder);
const text = document.getElementById("text");
const showLength = () => {
  const words = text.value.trim().split(/\s+/).filter(Boolean).length;
  document.getElementById("length").textContent = `${words} ${words === 1 ? "word" : "words"}`;
};
text?.addEventListener("input", showLength);
if (text) showLength();
showOrder();

let leaving = false;
for (const element of document.querySelectorAll("form[method=post]")) {
  element.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    if (leaving) {
      event.preventDefault(); // a double click is one submit
      return;
    }
    leaving = true;
    draft?.stop();
    form.elements.active_ms.value = String(Math.round(active));
    if (event.submitter?.id === "submit") sessionStorage.removeItem(clockKey);
  });
}
// Back out of the browser's cache: the page is as it was left, and may be used again.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});
