// A list of entries: new ones arrive, and an artifact is found by its digest.
import { digest, droppable, listen } from "./page.js";

const log = document.getElementById("log");
const most = 100; // rows, however many arrive
let size = Number(log.dataset.size || 0);
let fetching = false;
let wanted = size;

async function renew() {
  if (fetching) return;
  fetching = true;
  try {
    while (wanted > size) {
      const until = wanted;
      const answer = await fetch(`/logs/${log.dataset.log}?rows`);
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(`<table><tbody>${await answer.text()}</tbody></table>`, "text/html");
      const rows = document.getElementById("rows");
      if (!rows) return location.reload();
      const empty = document.getElementById("empty");
      if (empty) empty.remove();
      const listed = (row) => rows.querySelector(`[data-index="${row.dataset.index}"]`);
      const all = [...fresh.querySelectorAll("tr")];
      const added = all.filter((row) => !listed(row));
      // So many have come that some of them are not among these: what is listed would have a gap.
      if (added.length === all.length) rows.replaceChildren();
      for (const row of added.reverse()) {
        row.classList.add("new");
        rows.prepend(document.adoptNode(row));
      }
      while (rows.children.length > most) rows.lastElementChild.remove();
      size = until;
      // The links below lead on from what is listed.
      const [first, last] = [rows.lastElementChild, rows.firstElementChild].map((row) => Number(row?.dataset.index ?? 0));
      document.getElementById("listed").textContent = `${first} to ${last}`;
      const older = document.querySelector(".pager a[rel=next]");
      if (older) older.href = `?before=${first}`;
      else if (first > 0) location.reload();
    }
  } finally {
    fetching = false;
  }
}

listen(`/logs/${log.dataset.log}/events`, {
  size(data) {
    const now = JSON.parse(data);
    // A log that was stopped is back, or the other way round, or it is another log, with fewer entries: the page says so.
    if (now.runs === ("stopped" in log.dataset) || now.runs && now.size < size) {
      location.reload();
      return;
    }
    if (!now.runs) return;
    const shown = document.getElementById("size");
    if (shown) shown.textContent = now.size;
    if ("live" in log.dataset && now.size > wanted) {
      wanted = now.size;
      renew();
    }
  },
});

const form = document.querySelector("[data-drop-artifact]");
const artifact = document.getElementById("artifact");
if (artifact) {
  const search = async (file) => {
    document.getElementById("q").value = "sha256:" + await digest(file);
    form.submit();
  };
  artifact.addEventListener("change", () => { if (artifact.files.length > 0) search(artifact.files[0]); });
  droppable(form, search);
}
