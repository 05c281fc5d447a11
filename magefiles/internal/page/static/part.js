// A part as it is now, and its log, which follows.
import { listen } from "./page.js";

const state = document.getElementById("state");
const memory = document.getElementById("memory");
listen("/events", {
  parts(data) {
    const part = JSON.parse(data).find((one) => one.name === state.dataset.part);
    if (state.textContent !== part.state) state.textContent = part.state;
    state.className = "state " + part.mood;
    if (memory && part.memory) memory.textContent = part.memory;
  },
});

const lines = document.getElementById("lines");
const most = 500; // lines
lines.scrollTop = lines.scrollHeight;
listen(lines.dataset.follow, {
  begin() {
    lines.textContent = "";
  },
  line(text) {
    const atEnd = lines.scrollTop + lines.clientHeight > lines.scrollHeight - 20;
    const all = (lines.textContent + text + "\n").split("\n");
    lines.textContent = all.slice(-most).join("\n");
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  },
});
