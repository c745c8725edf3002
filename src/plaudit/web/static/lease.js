// While the page is used, the task stays reserved; before it goes back to the queue there is a warning and a way to keep it.

const BEAT_MS = 60_000; // at most; a short lease needs more
const WARN_MS = 120_000;

export function keepLease(root, inUse) {
  const path = `/api/v1/assignments/${root.dataset.assignment}/heartbeat`;
  const warning = document.getElementById("lease-warning");
  const words = document.getElementById("lease-text");
  const more = document.getElementById("lease-more");
  // The server's clock and this one may differ: only spans are compared.
  let expires = performance.now() + Number(root.dataset.left);
  const lease = Number(root.dataset.leaseMinutes) * 60_000;
  const warn = Math.min(WARN_MS, lease / 4);
  let lost = false;

  async function beat() {
    try {
      const answer = await fetch(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ lease_no: Number(root.dataset.leaseNo) }),
      });
      const body = await answer.json();
      if (answer.ok) {
        expires = performance.now() + body.lease_left_ms;
        warning.hidden = true;
      } else if (answer.status === 409 || answer.status === 404) {
        lost = true;
        show("This task went back to the queue. Your text is still here: submit it all the same, late work is kept where possible.");
        more.hidden = true;
      }
    } catch {
      // The server is away for a moment; the next beat tries again.
    }
  }

  function show(sentence) {
    words.textContent = sentence;
    if (!warning.hidden) return;
    warning.hidden = false;
    // Taking the focus out of a text field would swallow what is being typed.
    if (!document.activeElement?.matches("textarea, input, select")) warning.focus();
  }

  more.addEventListener("click", beat);
  setInterval(() => {
    if (!lost && inUse()) beat();
  }, Math.min(BEAT_MS, lease / 3));
  setInterval(() => {
    const left = expires - performance.now();
    if (lost || left > warn) return;
    const minutes = Math.ceil(left / 60_000);
    show(left <= 0 ? "The time for this task is over. It may go to somebody else." : `This task goes back to the queue in less than ${minutes === 1 ? "a minute" : `${minutes} minutes`}.`);
  }, 5_000);
}
