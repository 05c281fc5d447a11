// A log that follows.
import { listen } from "./page.js";

const lines = document.getElementById("lines");
const most = 500; // lines
lines.scrollTop = lines.scrollHeight;
listen(lines.dataset.follow, {
  line(text) {
    const atEnd = lines.scrollTop + lines.clientHeight > lines.scrollHeight - 20;
    const all = (lines.textContent + text + "\n").split("\n");
    lines.textContent = all.slice(-most).join("\n");
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  },
});
