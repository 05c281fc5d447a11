// A part as it is now, and its log, which follows.
import { listen } from "./page.js";

const lines = document.getElementById("lines");
const most = 500; // lines

function show(text) {
  if (text === lines.textContent) return;
  const atEnd = lines.scrollTop + lines.clientHeight > lines.scrollHeight - 20;
  lines.textContent = text;
  if (atEnd) lines.scrollTop = lines.scrollHeight;
}

lines.scrollTop = lines.scrollHeight;
listen(lines.dataset.follow, {
  part(data) {
    const part = JSON.parse(data);
    for (const field of document.querySelectorAll("[data-field]")) {
      const now = String(part[field.dataset.field] || "");
      if (field.textContent !== now) field.textContent = now;
    }
    document.getElementById("state").className = "state " + part.mood;
    document.getElementById("starts").hidden = part.state !== "stopped";
  },
  log: show,
  line(text) { show((lines.textContent + text + "\n").split("\n").slice(-most).join("\n")); },
});
