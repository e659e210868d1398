const cards = [...document.querySelectorAll(".card")], list = document.getElementById("cards");
const [search, layer, state, sort, turn, where, count, help] =
  ["search", "layer", "state", "sort", "turn", "where", "count", "help"].map(id => document.getElementById(id));
const values = new Map(cards.map(card => [card, JSON.parse(card.dataset.values)]));
const two = list.dataset.sides === "2";
// what a key or button stands for: the papers' scale of one label, or the better one of two
const grades = two ? ["first", "second", "equal"] : ["1", "2", "3", "4", "5"];
const memory = `dnr_bench ratings ${location.pathname} ${document.title}`;
let descending = false, ratings = {};
try { ratings = JSON.parse(localStorage.getItem(memory)) ?? {}; } catch { /* a page without memory still exports */ }

// text of models and files becomes text nodes, never markup
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    if (key in element && key !== "style") element[key] = value; else element.setAttribute(key, value);
  element.append(...children.filter(child => child !== null));
  return element;
}
const number = value => value === null || value === undefined ? "–"
  : Math.abs(value) >= 10 ? value.toPrecision(3) : value.toFixed(3);
const fold = word => word.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "").replace(/(es|s)$/, "");

function picture(tile, text) {
  const strip = where.checked && tile.where ? tile.where : tile.strip;
  const image = make("span", { className: `tile ${strip}`, role: "img", "aria-label": text,
    style: `background-position-x: -${tile.place * {{ size }}}px` });
  if (tile.where) { image.dataset.seen = tile.strip; image.dataset.where = tile.where; }
  return make("figure", { title: `${text} (${number(tile.value)})` }, image, make("figcaption", {}, number(tile.value)));
}

function histogram(found, exemplars) {
  const [width, height] = [220, 46], svg = document.getElementById("drawing").cloneNode();
  const add = (name, attributes, text = "") => {
    const part = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
    part.textContent = text;
    svg.append(part);
  };
  const most = Math.sqrt(Math.max(1, ...found.counts)), step = width / found.counts.length;
  found.counts.forEach((n, i) => {
    const tall = n ? Math.max(1, Math.sqrt(n) / most * height) : 0;
    add("rect", { x: i * step + .5, y: height - tall, width: step - 1, height: tall });
  });
  const span = found.high - found.low || 1;
  for (const tile of exemplars) {
    const x = Math.max(0, Math.min(1, (tile.value - found.low) / span)) * width;
    add("line", { x1: x, x2: x, y1: height + 1, y2: height + 7 });
  }
  add("text", { x: 0, y: height + 18 }, number(found.low));
  add("text", { x: width, y: height + 18, "text-anchor": "end" }, number(found.high));
  const of = found.counts.reduce((sum, n) => sum + n, 0);
  const told = `activations on ${of} probing images, from ${number(found.low)} to ${number(found.high)}; heights are square roots of counts; the marks are the exemplars`;
  for (const name of ["id", "aria-hidden"]) svg.removeAttribute(name);
  for (const [key, value] of Object.entries({ width, height: height + 22, class: "histogram", role: "img", "aria-label": told }))
    svg.setAttribute(key, value);
  add("title", {}, told);
  return svg;
}

// the words of a caption that are in the label, too
function caption(text, decided) {
  return make("li", {}, ...text.split(/(\s+)/).map(word =>
    decided.has(fold(word)) && fold(word) ? make("mark", {}, word) : document.createTextNode(word)));
}

function candidate(found) {
  const seen = found.shown === null ? [] : [make("br"), make("small", { className: "soft" },
    found.shown === 0 ? "no picture shows it" : `${found.shown} show it`)];
  const tiles = found.tiles.map(tile => picture(tile, found.text));
  return make("div", { className: "candidate" }, make("span", { className: found.won ? "won" : "" }, found.text),
    make("span", { className: "soft" }, found.origin), make("span", {}, number(found.score), ...seen),
    make("div", { className: "tiles" }, ...tiles.length ? tiles : [make("span", { className: "soft" }, found.reason)]));
}

function side(found) {
  const box = make("section");
  if (found.title) box.append(make("h4", {}, found.title));
  if (found.exemplars.length) {
    const decided = new Set(found.labels.flatMap(label => label.split(/\s+/).map(fold)));
    const tiles = make("div", { className: "tiles" }, ...found.exemplars.map((tile, i) => picture(tile, tile.text || `exemplar ${i + 1}`)));
    box.append(make("p", { className: "soft" }, "What excites it, with its activation"),
      make("div", { className: "excited" }, tiles, found.histogram ? histogram(found.histogram, found.exemplars) : null));
    if (found.exemplars.some(tile => tile.text))
      box.append(make("details", {}, make("summary", { className: "soft" }, "captions, with the words of the label marked"),
        make("ol", {}, ...found.exemplars.map(tile => caption(tile.text, decided)))));
  }
  if (found.refined.length) box.append(make("p", { className: "soft" }, `refined: ${found.refined.join(" → ")}`));
  if (found.candidates.length) box.append(make("p", { className: "soft" }, "Candidates and the images drawn of them, by activation"),
    ...found.candidates.map(candidate));
  return box;
}

function sheet(href) {
  if (document.querySelector(`link[href="${CSS.escape(href)}"]`)) return;
  document.head.append(make("link", { rel: "stylesheet", href }));
}

// pictures and candidates are made when a card comes near the window: thousands of neurons open at once
function fill(card) {
  const data = card.querySelector("script");
  if (!data) return;
  const found = JSON.parse(data.textContent);
  for (const one of found) one.sheets.forEach(sheet);
  data.replaceWith(make("div", { className: two ? "sides two" : "sides" }, ...found.map(side)));
  const rating = make("span", { className: "rating", role: "group", "aria-label": two ? "which label is better" : "rate the label from 1 to 5" },
    ...grades.map((grade, i) => make("button", { type: "button", title: `${two ? "" : "rate "}${grade} (key ${i + 1})`, "aria-pressed": "false",
      onclick: () => rate(card, grade) }, grade)));
  card.querySelector("header").append(rating);
  mark(card);
}
function mark(card) {
  for (const button of card.querySelectorAll(".rating button"))
    button.setAttribute("aria-pressed", String(ratings[card.id] === button.textContent));
}
function rate(card, grade) {
  if (grade === null || ratings[card.id] === grade) delete ratings[card.id]; else ratings[card.id] = grade;
  try { localStorage.setItem(memory, JSON.stringify(ratings)); } catch { /* kept until the page is closed */ }
  mark(card);
  told();
}
function told() {
  const n = Object.keys(ratings).length;
  document.getElementById("export").hidden = !n;
  document.getElementById("export").textContent = `${n} rated: save as CSV`;
}
function exported() {
  const quoted = text => `"${String(text).replaceAll('"', '""')}"`;
  const head = ["neuron", ...(two ? ["first", "second", "better"] : ["label", "rating"])];
  const rows = cards.filter(card => card.id in ratings)
    .map(card => [card.id, ...[...card.querySelectorAll("h3")].map(label => label.dataset.label), ratings[card.id]]);
  const text = [head, ...rows].map(row => row.map(quoted).join(",")).join("\r\n") + "\r\n";
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "ratings.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function show() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    const fits = (!layer.value || card.dataset.layer === layer.value)
      && (!state.value || card.dataset.states.split(" ").includes(state.value))
      && words.every(word => card.dataset.text.includes(word));
    card.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${cards.length}`;
}
function order() {
  const of = card => values.get(card)[sort.value];
  const sorted = sort.value ? [...cards].sort((a, b) => {
    const [x, y] = [of(a), of(b)];
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return descending ? y - x : x - y;
  }) : descending ? [...cards].reverse() : cards;
  list.append(...sorted);
}
function showWhere() {
  for (const tile of document.querySelectorAll("[data-where]"))
    tile.className = "tile " + (where.checked ? tile.dataset.where : tile.dataset.seen);
}

// the address holds the neuron (#layer:unit), or what is filtered (#search=star&layer=fc&neuron=fc:5)
const filters = { search, layer, state, sort };
function filtered() {
  const found = new URLSearchParams();
  for (const [name, control] of Object.entries(filters)) if (control.value) found.set(name, control.value);
  if (descending) found.set("down", "1");
  if (where.checked) found.set("where", "1");
  return found;
}
function note(neuron = "") {
  const found = filtered();
  const plain = !found.size;
  if (neuron && !plain) found.set("neuron", neuron);
  const address = plain ? encodeURI(neuron) : found.toString().replaceAll("%3A", ":");
  try { history.replaceState(null, "", `#${address}`); } catch { /* a page within another one has no address */ }
}
function follow() {
  const address = location.hash.slice(1), isFilter = /^(search|layer|state|sort|down|where|neuron)=/.test(address);
  const found = new URLSearchParams(isFilter ? address : "");
  let neuron = found.get("neuron");
  if (isFilter) {
    for (const [name, control] of Object.entries(filters)) control.value = found.get(name) ?? "";
    descending = found.has("down");
    turn.textContent = descending ? "↓" : "↑";
    where.checked = found.has("where");
  } else try { neuron = decodeURIComponent(address); } catch { neuron = address; }
  show();
  if (isFilter) { order(); showWhere(); }
  const card = neuron && document.getElementById(neuron);
  if (card && card.classList.contains("card")) { card.hidden = false; go(card); }
}
function go(card) {
  fill(card);
  card.focus({ preventScroll: true });
  card.scrollIntoView({ block: "start" });
}

const near = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) { fill(entry.target); near.unobserve(entry.target); }
}, { rootMargin: "900px" });
cards.forEach(card => near.observe(card));
for (const control of [search, layer, state]) control.addEventListener("input", () => { show(); note(); });
sort.addEventListener("input", () => { order(); note(); });
turn.addEventListener("click", () => { descending = !descending; turn.textContent = descending ? "↓" : "↑"; order(); note(); });
where.addEventListener("input", () => { showWhere(); note(); });
document.getElementById("export").addEventListener("click", exported);
document.getElementById("keys").addEventListener("click", () => help.showModal());
list.addEventListener("click", event => {  // a neuron's link keeps the filters
  const link = event.target.closest("a.name");
  if (!link) return;
  event.preventDefault();
  note(link.closest(".card").id);
  go(link.closest(".card"));
});
window.addEventListener("hashchange", follow);
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
  const active = document.activeElement;
  if (event.key === "Escape") { event.preventDefault(); active.blur(); return; }  // a search field would empty itself
  if (/^(INPUT|SELECT)$/.test(active.tagName) && active !== where) return;
  const card = active.closest(".card");
  if (event.key === "/") { event.preventDefault(); search.focus(); }
  else if (event.key === "?") help.showModal();
  else if (event.key === "w") where.click();
  else if (card && event.key === "0") rate(card, null);
  else if (card && grades[event.key - 1]) rate(card, grades[event.key - 1]);
  else if (event.key === "j" || event.key === "k") {
    const visible = [...list.children].filter(one => !one.hidden);
    const next = visible.indexOf(card) + (event.key === "j" ? 1 : -1);
    const found = visible[Math.max(0, Math.min(next, visible.length - 1))];
    if (found) { note(found.id); go(found); }
  }
});
told();
follow();
