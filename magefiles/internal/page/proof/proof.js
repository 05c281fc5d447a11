// Draws the proofs of a page, computes their hashes with WebCrypto, and computes them again when a field changes.
// What a proof consists of is in the data attributes of the elements that proof.html makes:
//
//   data-node                 a node of the tree, of data-kind
//     entry                   SHA-256 of 00 and the field's bytes (RFC 9162, section 2.1.1)
//     given                   the field's hash
//     combined                SHA-256 of 01 and the hashes of the nodes data-left and data-right, of which data-below is
//                             the one that the path comes from
//   data-hash                 the hash as the server has it
//   data-field                the field of a node
//   data-check                a root as signed, to compare with the node data-of

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 340, BOX = 112, HEIGHT = 28, APART = 124; // of a drawing, of a node in it, and between two that are side by side
const encoder = new TextEncoder();

/** start takes over all proofs below an element, once each. */
export function start(root = document) {
  for (const element of root.querySelectorAll(".proof")) {
    if (element.dataset.started) continue;
    element.dataset.started = "yes";
    new Proof(element);
  }
}

/** sha256 is the hash of several arrays of bytes one after the other, in hex. */
async function sha256(...parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", all));
  return Array.from(hash, byte => byte.toString(16).padStart(2, "0")).join("");
}

function fromHex(hex) {
  return Uint8Array.from({length: hex.length / 2}, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
}

/** read gives what a field holds: bytes of an entry, or the hex of a hash. wrong says why it holds neither. */
function read(field) {
  if (field.dataset.form === "text") return {value: encoder.encode(field.value)};
  const hex = field.value.replace(/\s/g, "").toLowerCase();
  const other = hex.match(/[^0-9a-f]/u);
  if (other) return {wrong: `has “${other[0]}”, which is no hex digit`};
  if (field.dataset.form === "bytes") {
    return hex.length % 2 ? {wrong: `has ${hex.length} hex digits, and a byte has two`} : {value: fromHex(hex)};
  }
  return hex.length === 64 ? {value: hex} : {wrong: `has ${hex.length} hex digits, and a SHA-256 has 64`};
}

const short = hash => hash ? hash.slice(0, 8) : "unknown";

const hint = "Point at a hash to see the whole of it; click to go to its place in the list.";

/** below says in a few letters which entries are below a node. */
const below = node => node.entries === "one" ? `entry ${node.short}` : node.short.length < 7 ? `entries ${node.short}` : node.short;

function svg(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, className, ...children) {
  const element = document.createElement(name);
  element.className = className;
  element.append(...children);
  return element;
}

class Proof {
  constructor(element) {
    this.element = element;
    this.verdict = element.querySelector(".proof-verdict");
    this.turn = 0; // of computing; one that begins ends those before it
    this.nodes = new Map();
    for (const part of element.querySelectorAll("[data-node]")) {
      const {node: id, kind, left, right, below, hash, name, short, entries, tree, bytes, older} = part.dataset;
      const said = {id, kind, left, right, below, name, short, entries, tree, bytes, older};
      this.nodes.set(id, {...said, part, genuine: hash, value: hash, boxes: []});
    }
    for (const node of this.nodes.values()) {
      for (const side of ["left", "right", "below"]) node[side] = this.nodes.get(node[side]);
    }
    for (const field of element.querySelectorAll("[data-field]")) this.nodes.get(field.dataset.field).field = field;
    this.checks = Array.from(element.querySelectorAll("[data-check]"), part => ({
      part, name: part.dataset.check, size: part.dataset.size, node: this.nodes.get(part.dataset.of),
      field: part.querySelector("[data-form]"), genuine: part.dataset.hash, value: part.dataset.hash, boxes: [],
    }));
    if (this.checks.length === 0) return;
    this.fields = [...element.querySelectorAll("[data-form]")];
    this.draw();
    if (!globalThis.crypto?.subtle) {
      this.say(false, "This browser computes hashes on pages of https, localhost and 127.0.0.1 only. "
        + "What you see is what the server has computed.");
      return;
    }
    for (const field of this.fields) {
      field.readOnly = false;
      field.value = field.defaultValue; // a browser may have kept what it held before the page was loaded again
      field.addEventListener("input", () => this.compute());
    }
    element.querySelector(".proof-buttons").hidden = false;
    element.querySelector("[data-do=again]").addEventListener("click", () => this.compute({slowly: true}));
    element.querySelector("[data-do=back]").addEventListener("click", () => this.back());
    this.compute();
    const seen = new IntersectionObserver(entries => {
      if (!entries.some(entry => entry.isIntersecting)) return;
      seen.disconnect();
      this.compute({slowly: true});
    }, {threshold: 0.2});
    seen.observe(element.querySelector(".proof-drawings"));
  }

  /** back restores what the fields held. */
  back() {
    for (const field of this.fields) field.value = field.defaultValue;
    return this.compute();
  }

  /** compute computes all hashes and shows them, slowly for the eye to follow if that is asked for and wanted. */
  async compute({slowly = false} = {}) {
    const turn = ++this.turn;
    slowly &&= !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const steps = [...this.nodes.values()].filter(node => node.kind !== "given").length;
    const pause = Math.min(450, 4000 / steps); // milliseconds
    this.element.setAttribute("aria-busy", slowly);
    this.element.dataset.computed = "no";
    if (slowly) {
      this.say("", "Each hash is computed…");
      for (const node of this.nodes.values()) if (node.kind !== "given") this.showNode(node, "waits");
      for (const check of this.checks) this.showCheck(check, "waits");
    }
    for (const node of this.nodes.values()) { // each stands after those that it is made of
      const value = await this.hash(node);
      if (turn !== this.turn) return;
      node.value = value;
      this.showNode(node, this.state(node));
      if (!slowly || node.kind === "given") continue;
      this.at(node, "now");
      await new Promise(resolve => setTimeout(resolve, pause));
      if (turn !== this.turn) return;
    }
    this.at(null, "now");
    for (const check of this.checks) {
      const {value, wrong} = read(check.field);
      Object.assign(check, {value, wrong});
      this.showCheck(check, wrong || !check.node.value ? "unknown" : value === check.node.value ? "same" : "differs");
    }
    this.judge();
    this.element.setAttribute("aria-busy", "false");
    this.element.dataset.computed = "yes";
  }

  /** hash computes the hash of a node, or says that it is unknown. */
  async hash(node) {
    if (node.kind === "combined") {
      const {left, right} = node;
      return left.value && right.value ? sha256([1], fromHex(left.value), fromHex(right.value)) : undefined;
    }
    const {value, wrong} = read(node.field);
    node.wrong = wrong;
    return node.kind === "given" || wrong ? value : sha256([0], value);
  }

  /** state says how a node's hash relates to the genuine one. */
  state(node) {
    if (!node.value) return "unknown";
    if (node.value === node.genuine) return "same";
    return node.kind === "given" ? "edited" : "differs";
  }

  /** judge says whether the proof fits, or at which hash it breaks. */
  judge() {
    const wrong = [...this.nodes.values(), ...this.checks].find(one => one.wrong);
    if (wrong) {
      const kinds = {entry: `The field of ${wrong.name}`, given: `The hash of ${wrong.name}`};
      const what = kinds[wrong.kind] ?? `The ${wrong.name} in its field`;
      return this.say(false, `✗ ${what} ${wrong.wrong}. What depends on it cannot be computed.`);
    }
    const nodes = [...this.nodes.values()];
    const edited = nodes.find(node => this.state(node) === "edited");
    const first = nodes.find(node => this.state(node) === "differs");
    const broken = this.checks.filter(check => check.value !== check.node.value);
    const said = [];
    if (first) {
      const cause = edited && first.kind === "combined" ? `The hash of ${edited.name} is not the genuine one. ` : "";
      said.push(`${cause}It breaks at the hash of ${first.name}: it was ${short(first.genuine)} and is now ${short(first.value)}.`);
    }
    for (const check of broken) {
      const says = check.value === check.genuine ? "the log has signed" : "the field of the signed one has";
      if (!first && check.value !== check.genuine) said.push(`It breaks at the ${check.name}.`);
      said.push(`The ${check.name} that comes out is ${short(check.node.value)}, and ${says} ${short(check.value)}.`);
    }
    const forged = this.checks.find(check => check.value !== check.genuine);
    if (broken.length > 0 && !first && !forged) {
      said.unshift(edited ? `The hash of ${edited.name} is not the genuine one.` : "It does not fit.");
    }
    if (broken.length === 0 && (first || edited || forged)) { // a root was edited too, so that it fits
      const signed = short((forged ?? this.checks[0]).genuine);
      said.push(`What comes out is what the field has, and not what the log has signed: ${signed}.`);
    }
    if (said.length > 0) return this.say(false, `✗ ${said.join(" ")}`);
    const fits = this.checks.map(({name, value}) => `the ${name} that comes out, ${short(value)}, is the one that the log has signed`);
    this.say(true, `✓ It fits: ${fits.join(", and ")}.`);
  }

  say(good, text) {
    this.verdict.dataset.good = good;
    if (this.verdict.textContent !== text) this.verdict.textContent = text;
  }

  /** at marks a node in the drawing and in the list. */
  at(node, mark) {
    for (const marked of this.element.querySelectorAll("." + mark)) marked.classList.remove(mark);
    for (const element of node ? [node.part, ...node.boxes] : []) element.classList.add(mark);
  }

  showNode(node, state) {
    const {part, value} = node;
    const unknown = node.wrong ? "? cannot be read" : "? unknown";
    const word = {same: "", waits: "", differs: "≠ changed", edited: "✎ edited", unknown}[state];
    part.dataset.state = state;
    part.querySelector(".proof-state").textContent = word;
    if (node.kind !== "given") part.querySelector(".proof-hash").textContent = state === "waits" ? "…" : value ?? "unknown";
    for (const code of this.element.querySelectorAll(`[data-start="${node.id}"]`)) {
      code.textContent = value ? short(value) + "…" : "unknown";
    }
    for (const box of node.boxes) this.showBox(box, state, value);
    const entry = state === "unknown" ? "unknown" : node.field?.value === node.field?.defaultValue ? "same" : "edited";
    if (node.entryBox) this.showBox(node.entryBox, entry, null);
  }

  showCheck(check, state) {
    check.part.dataset.state = state;
    check.part.querySelector(".proof-compared").textContent = {
      same: `= equal to the ${check.name} that comes out`,
      differs: `≠ not the ${check.name} that comes out, ${short(check.node.value)}`,
      unknown: "? cannot be compared", waits: "",
    }[state];
    check.equals.textContent = {same: "=", differs: "≠", unknown: "?", waits: ""}[state];
    check.equals.dataset.state = state;
    const edited = check.value !== check.genuine;
    const shown = check.wrong ? "unknown" : edited ? "edited" : "same";
    for (const box of check.boxes) this.showBox(box, shown, check.value);
  }

  /** showBox shows a state and, unless it is null, a hash in the drawing. */
  showBox(box, state, value) {
    box.dataset.state = state;
    box.sign.textContent = {same: "", waits: "", differs: "≠", edited: "✎", unknown: "?"}[state];
    if (value !== null) box.hash.textContent = state === "waits" ? "········" : short(value);
  }

  // The drawing.

  draw() {
    const place = this.element.querySelector(".proof-drawings");
    this.whole = html("p", "proof-whole", hint); // the hash that is pointed at
    this.whole.setAttribute("aria-live", "polite");
    for (const check of this.checks) {
      const drawing = html("div", "proof-drawing", this.tree(check));
      if (this.checks.length > 1) drawing.prepend(html("p", "proof-caption", `The ${check.name}, of ${check.size} entries`));
      place.append(drawing);
    }
    if (place.querySelector(".proof-glyph")) {
      place.append(html("p", "proof-key", "■ is one entry; ▲ is a subtree, of which the proof has only the topmost hash."));
    }
    const legend = html("ul", "proof-legend");
    const meanings = {both: "builds both roots", older: "builds the older root", newer: "builds the newer root"};
    for (const [tree, meaning] of Object.entries(meanings)) {
      if (!place.querySelector(`[data-tree=${tree}]`)) continue;
      const item = html("li", "", meaning);
      item.dataset.tree = tree;
      legend.append(item);
    }
    if (legend.children.length > 1) place.append(legend);
    place.append(this.whole);
    this.element.addEventListener("focusin", event => {
      const part = event.target.closest("[data-node]");
      this.at(part ? this.nodes.get(part.dataset.node) : null, "here");
    });
    this.element.addEventListener("focusout", () => this.at(null, "here"));
  }

  /** tree draws the tree of a root: the path down from it in the middle, and what is beside it on its side. */
  tree(check) {
    const path = [];
    for (let node = check.node; node; node = node.below) path.push(node);
    const entry = path.at(-1).kind === "entry";
    const row = path.length > 8 ? 40 : 46;
    const y = at => 17 + at * row; // the signed root is in the row 0, and the root that comes out in the row 1
    const rows = path.length + (entry ? 2 : 1);
    const height = y(rows - 1) + 17;
    const lines = svg("g", {}), boxes = svg("g", {});
    const order = []; // of boxes, for the arrow keys
    const all = this.checks.length > 1 ? `Tree of the ${check.name}` : "Tree";
    const label = `${all}: ${path.length - 1} levels of hashes between ${path.at(-1).name} and the root of the tree of size ${check.size}. `
      + "The list of steps has the same.";
    const drawing = svg("svg", {viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label}, lines, boxes);

    const add = (x, at, one, lines, className, entries) => {
      const box = this.box(x, y(at), lines, className, entries);
      boxes.append(box);
      box.one = one;
      order.push(box);
      return box;
    };
    let x = WIDTH / 2;
    check.equals = svg("text", {x: x, y: y(0.5) + 5, class: "proof-equals"});
    check.boxes.push(add(x, 0, check, [short(check.genuine), "signed root"], "signed"));
    boxes.append(check.equals);
    path.forEach((node, depth) => {
      const at = depth + 1;
      const label = depth === 0 ? `root of ${check.size}` : node.older ? "older root" : below(node);
      node.boxes.push(add(x, at, node, [short(node.genuine), label], "path"));
      if (!node.below) return;
      const left = Math.max(BOX / 2 + 2, Math.min(x - APART / 2, WIDTH - BOX / 2 - 2 - APART));
      const childX = node.below === node.left ? left : left + APART, besideX = 2 * left + APART - childX;
      const beside = node.below === node.left ? node.right : node.left;
      this.line(lines, x, y(at), besideX, y(at + 1), beside, "beside");
      this.line(lines, x, y(at), childX, y(at + 1), node.below, "path");
      beside.boxes.push(add(besideX, at + 1, beside, [short(beside.genuine), below(beside)], "beside", beside.entries));
      x = childX;
    });
    if (entry) {
      const leaf = path.at(-1);
      this.line(lines, x, y(rows - 2), x, y(rows - 1), leaf, "path");
      leaf.entryBox = add(x, rows - 1, leaf, [`entry ${leaf.short}`, `${leaf.bytes} bytes`], "data");
    }
    return this.walk(drawing, order);
  }

  /** box draws a node. */
  box(x, y, [first, second], className, entries) {
    const glyph = entries ? 18 : 0;
    const box = svg("g", {class: "proof-box " + className, transform: `translate(${x} ${y})`});
    box.hash = svg("text", {x: glyph / 2, y: -2, class: "proof-box-hash"}, first);
    const label = svg("text", {x: glyph / 2, y: 10, class: "proof-box-label"}, second);
    if (second.length > 14) { // as wide as there is room
      label.setAttribute("textLength", BOX - glyph - 10);
      label.setAttribute("lengthAdjust", "spacingAndGlyphs");
    }
    box.sign = svg("text", {x: BOX / 2 - 8, y: -1, class: "proof-box-sign"});
    const frame = svg("rect", {x: -BOX / 2, y: -HEIGHT / 2, width: BOX, height: HEIGHT, rx: className === "data" ? 2 : 6});
    box.append(frame, box.hash, label, box.sign);
    const shape = {one: "M-49 4h8v-8h-8z", whole: "M-45 -9l9 18h-18z", uneven: "M-45 -9l4 8v10h-13z"}[entries];
    if (shape) box.append(svg("path", {d: shape, class: "proof-glyph"}));
    return box;
  }

  /** line draws the line from a node down to a child. */
  line(lines, x1, y1, x2, y2, child, className) {
    const from = y1 + HEIGHT / 2, to = y2 - HEIGHT / 2, middle = (from + to) / 2;
    const line = svg("path", {d: `M${x1} ${from}V${middle}H${x2}V${to}`, class: "proof-line " + className});
    if (className === "path") lines.append(line);
    else lines.prepend(line);
    if (child.tree) line.dataset.tree = child.tree;
    line.hash = line.sign = {}; // a line shows a state, and no text
    child.boxes.push(line);
  }

  /** walk lets the pointer and the arrow keys go from hash to hash, and shows the whole of one. */
  walk(drawing, order) {
    const {whole} = this;
    const frame = html("div", "proof-frame", drawing);
    frame.tabIndex = 0;
    frame.setAttribute("role", "group");
    frame.setAttribute("aria-label", "Drawing. The arrow keys left and right go from hash to hash, Enter goes to its place in the list.");
    let at = -1;
    const show = to => {
      order[at]?.classList.remove("at");
      at = to;
      if (at < 0) return void (whole.textContent = hint);
      order[at].classList.add("at");
      const {one} = order[at];
      if (order[at] === one.entryBox) whole.textContent = `${one.name}, ${one.bytes} bytes when it came from the log`;
      else whole.replaceChildren(one.size ? `the ${one.name} as signed: ` : `${one.name}: `, html("code", "", one.value ?? "unknown"));
    };
    const go = () => {
      const {one} = order[at];
      const field = one.field ?? one.part.closest("li").querySelector("[data-form]");
      field.focus();
      field.scrollIntoView({block: "center"});
    };
    frame.addEventListener("keydown", event => {
      const to = {ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: order.length - 1}[event.key];
      if (to !== undefined) show(Math.max(0, Math.min(order.length - 1, to)));
      else if (event.key === "Enter" && at >= 0) go();
      else return;
      event.preventDefault();
    });
    frame.addEventListener("focus", () => { if (frame.matches(":focus-visible")) show(Math.max(at, 0)); });
    frame.addEventListener("blur", () => show(-1));
    order.forEach((box, i) => {
      box.addEventListener("pointerenter", () => show(i));
      box.addEventListener("click", go);
      if (box.one.tree) box.dataset.tree = box.one.tree;
    });
    drawing.addEventListener("pointerleave", () => { if (document.activeElement !== frame) show(-1); });
    return frame;
  }
}

start();
