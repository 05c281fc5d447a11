// What every page needs: events that pause while nobody looks, and buttons that copy.

/**
 * listen opens a stream of events as long as the page is visible. A browser opens few connections to one server, so that pages in
 * hidden tabs would otherwise take them all. on has a function for each kind of event, which gets its data, a text.
 */
export function listen(url, on) {
  const lost = document.getElementById("lost");
  let source = null;
  let ended = false;
  let again = 0;
  const close = () => {
    clearTimeout(again);
    source?.close();
    source = null;
  };
  const open = () => {
    if (source || ended || document.hidden) return;
    const opened = source = new EventSource(url);
    opened.addEventListener("open", (event) => {
      lost.hidden = true;
      // The server's first event says which server it is. Another one may know nothing of what is shown here.
      if (event.data && event.data !== document.body.dataset.server) location.reload();
    });
    opened.addEventListener("error", () => {
      if (opened !== source) return;
      lost.hidden = false;
      // The browser tries again by itself, unless it was refused.
      if (opened.readyState !== EventSource.CLOSED) return;
      close();
      again = setTimeout(open, 3000);
    });
    for (const [kind, handle] of Object.entries(on)) opened.addEventListener(kind, (event) => handle(event.data));
  };
  document.addEventListener("visibilitychange", () => { document.hidden ? close() : open(); });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
  return { close() { ended = true; close(); } };
}

/** element makes an element with a text and attributes. */
export function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** digest is the SHA-256 of a file as hex, computed here. */
export async function digest(file) {
  const sum = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return Array.from(new Uint8Array(sum), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** droppable calls take with the file that is dropped on an element. */
export function droppable(target, take) {
  target.addEventListener("dragover", (event) => { event.preventDefault(); target.classList.add("dropping"); });
  target.addEventListener("dragleave", () => target.classList.remove("dropping"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("dropping");
    if (event.dataTransfer.files.length > 0) take(event.dataTransfer.files[0]);
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
  button.textContent = "Copied";
});
