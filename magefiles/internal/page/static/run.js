// A lesson under way: its steps arrive, and buttons go on.
import { listen } from "./page.js";

const run = document.getElementById("run");
let steps = run.querySelectorAll(".steps > li").length;

const stream = listen(`/lessons/${run.dataset.run}/events`, {
  steps(data) {
    const now = JSON.parse(data);
    const focused = document.activeElement ? document.activeElement.id : "";
    run.innerHTML = now.html; // the server's own template, in which everything is escaped
    run.dataset.state = now.state;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    const all = run.querySelectorAll(".steps > li");
    if (all.length > steps) {
      steps = all.length;
      const last = all[all.length - 1];
      // Where one is, is in the URL.
      history.replaceState(null, "", "#" + last.id);
      document.getElementById("told").textContent = last.querySelector("h2").textContent;
      last.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    }
    if (["done", "failed", "stopped"].includes(now.state)) {
      document.getElementById("told").textContent = run.querySelector(".notice")?.textContent ?? now.state;
      stream.close();
    }
  },
});

document.addEventListener("submit", (event) => {
  if (!event.target.matches("[data-act]")) return;
  event.preventDefault();
  fetch(event.target.action, { method: "POST", redirect: "manual" });
});
