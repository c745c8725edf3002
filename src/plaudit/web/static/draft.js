// The draft saves itself two seconds after the last change, and when the page is hidden.

const QUIET_MS = 2_000;
const RETRY_MS = 10_000;

export class Draft {
  constructor(root, form) {
    this.root = root;
    this.form = form;
    this.path = `/api/v1/assignments/${root.dataset.assignment}`;
    this.revision = Number(root.dataset.revision);
    this.timer = 0;
    this.saving = false;
    this.dirty = false;
    this.stopped = false;
    this.stale = document.getElementById("stale");
    form.addEventListener("input", () => this.changed());
    form.addEventListener("change", () => this.changed());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "hidden" && this.dirty) this.save({ keepalive: true });
    });
    document.getElementById("stale-load").addEventListener("click", () => {
      this.stop();
      window.location.reload();
    });
    document.getElementById("stale-keep").addEventListener("click", () => this.keepMine());
  }

  changed() {
    this.dirty = true;
    this.later(QUIET_MS);
  }

  later(wait) {
    clearTimeout(this.timer);
    if (!this.stopped) this.timer = setTimeout(() => this.save(), wait);
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  payload() {
    const data = new FormData(this.form);
    const confidence = data.get("confidence");
    const about = { reason: data.get("reason") ?? "", confidence: confidence ? Number(confidence) : null };
    if (this.root.dataset.kind === "demonstration") return { text: data.get("text") ?? "", ...about };
    const tiers = {};
    const flags = {};
    for (const [name, value] of data) {
      if (name.startsWith("rank-")) tiers[name.slice(5)] = Number(value);
      if (name.startsWith("flag-")) (flags[name.slice(5)] ??= []).push(value);
    }
    return { tiers, flags, none_acceptable: data.has("none"), ...about };
  }

  async save({ keepalive = false } = {}) {
    if (this.stopped || !this.stale.hidden) return;
    if (this.saving) return this.later(QUIET_MS);
    this.saving = true;
    this.dirty = false;
    try {
      const answer = await fetch(`${this.path}/draft`, {
        method: "POST",
        keepalive,
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ revision: this.revision, payload: this.payload() }),
      });
      const body = await answer.json();
      document.getElementById("offline").hidden = true;
      if (answer.ok) this.saved(body.revision);
      else if (body.code === "stale_draft") this.showStale();
      else document.getElementById("saved").textContent = `Draft not saved: ${body.detail}`;
    } catch {
      this.dirty = true;
      document.getElementById("offline").hidden = this.stopped;
      this.later(RETRY_MS);
    } finally {
      this.saving = false;
    }
  }

  saved(revision) {
    this.revision = revision;
    this.form.elements.draft_revision.value = String(revision);
    const now = new Date().toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
    document.getElementById("saved").textContent = `Draft saved ${now}`;
  }

  showStale() {
    this.stale.hidden = false;
    this.stale.focus();
  }

  async keepMine() {
    const answer = await fetch(this.path);
    if (!answer.ok) return;
    const task = await answer.json();
    this.revision = task.draft?.revision ?? 0;
    this.stale.hidden = true;
    this.dirty = true;
    await this.save();
  }
}
