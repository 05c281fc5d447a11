// A lesson under way: its steps arrive, and buttons go on.
import { listen } from "./page.js";

const run = document.getElementById("run");
const ends = ["done", "failed", "stopped"];
let steps = run.querySelectorAll(".steps > li").length;

const stream = listen(`/lessons/${run.dataset.run}/events`, {
  steps(data) {
    const now = JSON.parse(data);
    const focused = run.contains(document.activeElement) ? document.activeElement.id : "";
    const shown = [...run.querySelectorAll("details")].map((one) => one.open);
    run.innerHTML = now.html; // the server's own template, in which everything is escaped
    run.dataset.state = now.state;
    [...run.querySelectorAll("details")].forEach((one, i) => { one.open = shown[i] ?? false; });
    // Whoever goes on by the keyboard goes on from where they were. At the end, that is the button that begins again.
    if (focused) (document.getElementById(focused) ?? document.getElementById("again"))?.focus({ preventScroll: true });
    const all = run.querySelectorAll(".steps > li");
    if (all.length > steps) {
      steps = all.length;
      const last = all[all.length - 1];
      // Where one is, is in the URL.
      history.replaceState(null, "", "#" + last.id);
      document.getElementById("told").textContent = last.querySelector("h2").textContent;
      last.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    }
    if (ends.includes(now.state)) {
      document.getElementById("told").textContent = run.querySelector(".notice")?.textContent ?? now.state;
      stream.close();
    }
  },
});

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-act]")) return;
  event.preventDefault();
  if (event.submitter?.getAttribute("aria-disabled") === "true") return;
  const answer = await fetch(form.action, { method: "POST", redirect: "manual" }).catch(() => null);
  // What is refused is asked once more without a script: the browser then shows why.
  if (answer && answer.type !== "opaqueredirect") form.submit();
});
