// The stack as it is now: how its parts are, and what passes between them.
import { element, listen } from "./page.js";

const most = 100; // lines in the list of what has passed
const stagger = 350; // milliseconds between two arrows that light up, so that one sees their order
const lit = 2500; // milliseconds that an arrow is lit

const passed = document.getElementById("passed");
const arrows = [...document.querySelectorAll("svg.diagram .arrow")];
let free = 0; // when the next arrow may light up

function light(from, to) {
  const now = performance.now();
  free = Math.max(now, free) + stagger;
  // After a burst, the arrows do not lag behind what is listed.
  if (free - now > 4000) free = now;
  for (const arrow of arrows.filter((one) => one.dataset.from === from && one.dataset.to === to)) {
    setTimeout(() => {
      arrow.classList.add("lit");
      arrow.lit = (arrow.lit || 0) + 1;
      setTimeout(() => { if (--arrow.lit === 0) arrow.classList.remove("lit"); }, lit);
    }, Math.max(0, free - stagger - now));
  }
}

listen("/events", {
  parts(data) {
    const parts = JSON.parse(data);
    document.getElementById("running").textContent = parts.filter((one) => one.state === "ready").length;
    for (const part of parts) {
      const row = document.querySelector(`[data-row="${CSS.escape(part.name)}"]`);
      const state = row.querySelector("[data-field=state]");
      state.textContent = part.state;
      state.className = "state " + part.mood;
      row.querySelector("[data-field=memory]").textContent = part.memory;
      row.querySelector("[data-field=version]").textContent = part.version;
      const drawn = document.querySelector(`svg.diagram [data-part="${CSS.escape(part.name)}"]`);
      const box = drawn.querySelector(".box");
      box.classList.remove("well", "idle", "ill");
      box.classList.add(part.mood);
      drawn.querySelector(".state").textContent = part.state;
      drawn.querySelector("circle").setAttribute("class", "dot-" + part.mood);
    }
  },
  passed(data) {
    const event = JSON.parse(data);
    document.getElementById("nothing").hidden = true;
    const item = element("li");
    item.append(element("time", event.at), element("span", event.from ? event.from + " → " + event.to : ""), element("strong", event.what));
    passed.prepend(item);
    while (passed.children.length > most) passed.lastElementChild.remove();
    light(event.from, event.to);
  },
});
