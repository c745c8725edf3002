// Ranking by dragging: the letters in the bar below, put in order with mouse, pen or finger. One more way to set the radios of
// the ranks, which hold the state: the strip is drawn from them, and a drop sets them. It is hidden from screen readers.

const SLIP_PX = 5; // a finger that only taps moves a little
const REACH_PX = 48; // how far beside the strip a letter may be let go

export class Tiers {
  constructor(root, answers, { ranked, show }) {
    this.strip = document.getElementById("tiers");
    this.letters = answers.map((answer) => answer.dataset.letter);
    this.ranked = ranked; // (letter -> rank) -> nothing: sets the radios
    this.show = show; // a tap on a letter
    this.held = null;
    this.strip.hidden = false;
    document.getElementById("order").classList.add("visually-hidden");
    document.getElementById("drag-hint").hidden = false;
    for (const answer of answers) answer.querySelector(".letter").classList.add("chip");
    // Listened to and captured here, because the letters themselves are drawn anew.
    root.addEventListener("pointerdown", (event) => this.take(event, root));
    root.addEventListener("pointermove", (event) => this.move(event));
    root.addEventListener("pointerup", (event) => this.drop(event));
    root.addEventListener("pointercancel", () => this.letGo());
    root.addEventListener("lostpointercapture", () => this.letGo());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.letGo();
    });
  }

  // --- drawing ------------------------------------------------------------------------------------------------------

  draw(ranks) {
    this.letGo();
    this.order = [...new Set(Object.values(ranks))]
      .sort((a, b) => a - b)
      .map((rank) => this.letters.filter((letter) => ranks[letter] === rank));
    const waiting = this.letters.filter((letter) => !(letter in ranks));
    const parts = [];
    if (waiting.length) parts.push(zone("tray", "", waiting.map(chip)), zone("arrow", "→"));
    if (this.order.length) {
      parts.push(zone("gap", "", [], 0));
      for (const [i, tier] of this.order.entries()) {
        parts.push(zone("tier", "", tier.map(chip), i), zone("gap", i < this.order.length - 1 ? ">" : "", [], i + 1));
      }
    } else parts.push(zone("gap empty", "Drag here, best first", [], 0));
    this.strip.replaceChildren(...parts);
  }

  // --- dragging -----------------------------------------------------------------------------------------------------

  take(event, root) {
    const grip = event.target.closest(".chip");
    if (!grip || event.button !== 0 || this.held) return;
    root.setPointerCapture(event.pointerId);
    this.held = { letter: grip.dataset.letter, grip, pointer: event.pointerId, x: event.clientX, y: event.clientY, ghost: null };
  }

  move(event) {
    const held = this.held;
    if (held?.pointer !== event.pointerId) return;
    if (!held.ghost) {
      if (Math.hypot(event.clientX - held.x, event.clientY - held.y) < SLIP_PX) return;
      held.ghost = chip(held.letter);
      held.ghost.classList.add("ghost");
      document.body.append(held.ghost);
      held.grip.classList.add("taken");
      this.strip.classList.add("open");
    }
    held.ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px) translate(-50%, -60%)`;
    held.target?.classList.remove("target");
    held.target = this.zoneAt(event.clientX, event.clientY);
    held.target?.classList.add("target");
  }

  drop(event) {
    const held = this.held;
    if (held?.pointer !== event.pointerId) return;
    this.letGo();
    if (!held.ghost) this.show(held.letter);
    else if (held.target) this.ranked(this.ranksAfter(held.letter, held.target));
  }

  letGo() {
    const held = this.held;
    this.held = null;
    held?.ghost?.remove();
    held?.grip.classList.remove("taken");
    held?.target?.classList.remove("target");
    this.strip.classList.remove("open");
  }

  /** The place a letter would go to: the nearest one, if the pointer is at the strip at all. */
  zoneAt(x, y) {
    if (distance(this.strip.getBoundingClientRect(), x, y) > REACH_PX) return null;
    const zones = [...this.strip.querySelectorAll(".tray, .tier, .gap")];
    const far = zones.map((one) => distance(one.getBoundingClientRect(), x, y));
    return zones[far.indexOf(Math.min(...far))];
  }

  /** Ranks from 1, without gaps, once the letter lies where it was dropped. */
  ranksAfter(letter, target) {
    const at = Number(target.dataset.at);
    const order = this.order.map((tier) => tier.filter((other) => other !== letter));
    if (target.classList.contains("tier")) order[at].push(letter);
    if (target.classList.contains("gap")) order.splice(at, 0, [letter]);
    const ranks = {};
    for (const [i, tier] of order.filter((one) => one.length).entries()) for (const other of tier) ranks[other] = i + 1;
    return ranks;
  }
}

function chip(letter) {
  const made = document.createElement("span");
  made.className = "chip";
  made.dataset.letter = letter;
  made.textContent = letter;
  return made;
}

function zone(kind, words, inside = [], at = "") {
  const made = document.createElement("span");
  made.className = kind;
  made.dataset.at = at;
  made.append(words, ...inside);
  return made;
}

function distance(box, x, y) {
  return Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom));
}
