"use strict";
const study = JSON.parse(document.getElementById("study").textContent);
const main = document.getElementById("main"), large = document.getElementById("large");
const steps = [...study.practice, ...study.items], key = `dnr-rate-${study.study}-${study.page}`;
const given = new URLSearchParams(location.search);
const known = given.get("PROLIFIC_PID") || given.get("workerId") || given.get("rater") || "";
// what a rater is called in a file: letters, digits and . @ + - _
const nameOf = text => text.replace(/[^\p{L}\p{N}_ .@+-]/gu, "").slice(0, 64);

let keeps = true;
const load = () => { try { return JSON.parse(localStorage.getItem(key)); } catch { keeps = false; return null; } };
// step -1 is the first screen; body is what was sent, which stays as it is
const fresh = () => ({ step: -1, rater: "", answers: {}, body: "", arrived: false });
function restored() { const kept = load(); return kept && typeof kept === "object" && kept.answers ? { ...fresh(), ...kept } : fresh(); }
let state = restored(), welcoming = true;
state.rater ||= nameOf(known);
function save() { try { localStorage.setItem(key, JSON.stringify(state)); } catch { keeps = false; } }
// another tab has answered: this one shows what that one has, and writes nothing older
addEventListener("storage", event => { if (event.key === key) { timed = since = null; state = restored(); show(); } });

// time counts while the page is looked at
let since = null, timed = null;
function stopClock() {
  if (since !== null && timed) timed.seconds += (performance.now() - since) / 1000;
  since = null;
}
function startClock(answer) { stopClock(); timed = answer; since = document.hidden ? null : performance.now(); }
document.addEventListener("visibilitychange", () => { if (document.hidden) { stopClock(); save(); } else if (timed) since = performance.now(); });
addEventListener("pagehide", () => { stopClock(); save(); });

function element(tag, attributes = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") found.className = value; else if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else found.setAttribute(name, value);
  }
  found.append(...children);
  return found;
}
function paint(target, item, place) {
  const { columns, n, webp } = study.montages[item.montage], rows = Math.ceil(n / columns);
  const at = (i, of) => of > 1 ? `${100 * i / (of - 1)}%` : "0%";
  target.style.backgroundImage = `url(data:image/webp;base64,${webp})`;
  target.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
  target.style.backgroundPosition = `${at(place % columns, columns)} ${at(Math.floor(place / columns), rows)}`;
}
function pictures(item, answer, refresh) {
  const chooses = item.asks === "pictures";
  const box = element("div", { class: chooses ? "pictures choose" : "pictures", role: "group", "aria-label": "pictures" });
  for (let place = 0; place < item.pictures; place++) {
    const one = element("button", { type: "button", class: "picture", "aria-label": `picture ${place + 1}` });
    paint(one, item, place);
    if (chooses) {
      one.append(element("span", { class: "number", "aria-hidden": "true" }, String(place + 1)));
      one.addEventListener("click", () => { toggle(answer, place); refresh(); });
    } else {
      one.addEventListener("click", () => { paint(large.firstElementChild, item, place); large.showModal(); });
    }
    box.append(one);
  }
  return box;
}
function toggle(answer, place) {
  answer.chosen = answer.chosen.includes(place) ? answer.chosen.filter(other => other !== place) : [...answer.chosen, place].sort((a, b) => a - b);
  answer.none = false;
}
large.querySelector("button").addEventListener("click", () => large.close());
large.addEventListener("click", event => { if (event.target === large) large.close(); });

const answerOf = item => state.answers[item.id] ??= { seconds: 0, ratings: {}, best: "", chosen: [], none: false };
const needsBest = item => item.labels.length > 1;
function missing(item, answer) {
  if (item.asks === "pictures") return answer.chosen.length || answer.none ? "" : "Choose the pictures that fit, or “none of them”.";
  if (item.labels.some(label => !answer.ratings[label.id])) return "Please rate every description.";
  return needsBest(item) && !answer.best ? "Which description is best?" : "";
}
function feedback(item, answer) { // of practice only: what a careful person would say
  if (item.asks === "pictures") {
    const right = String(answer.chosen) === String(item.fits);
    return right ? ["good", "That is right."] : ["bad", `The pictures that fit are ${item.fits.map(place => place + 1).join(", ")}. Please try again.`];
  }
  for (const label of item.labels) {
    const [low, high] = item.fits[label.id], said = answer.ratings[label.id];
    if (said < low || said > high) return ["bad", `“${label.text}” ${low > 3 ? "fits these pictures well" : "does not fit these pictures"}: rate it ${low} or ${high}.`];
  }
  const top = Math.max(...Object.values(answer.ratings));
  if (answer.best && answer.ratings[answer.best] < top) return ["bad", "The best description should be one of those that you rated highest."];
  return ["good", "That is right."];
}

let active = 0;
function go(step) {
  stopClock(); timed = null;
  state.step = Math.max(-1, Math.min(step, steps.length));
  welcoming = state.step < 0;
  active = 0;
  save(); show(); scrollTo(0, 0); main.focus({ preventScroll: true });
}
function bar(...children) { return element("nav", {}, ...children); }
function where() {
  const done = Math.max(0, state.step - study.practice.length), total = study.items.length;
  document.getElementById("progress").value = total ? Math.min(done, total) / total : 0;
  document.getElementById("where").textContent = state.step < 0 ? `${total} questions` : state.step < study.practice.length
    ? `practice ${state.step + 1} of ${study.practice.length}` : done < total ? `${done + 1} of ${total}` : "done";
}
function show() {
  where();
  const asking = !welcoming && state.step < steps.length;
  main.replaceChildren(...(welcoming ? welcome() : asking ? question(steps[state.step]) : end()));
  if (asking) shown(question.item, question.answer);
}
const begin = () => go(Math.max(state.step, 0));
function welcome() {
  const resumed = state.step >= 0;
  const name = element("input", { type: "text", id: "rater", maxlength: "64", autocomplete: "off", value: state.rater });
  name.addEventListener("input", () => { state.rater = nameOf(name.value); save(); });
  const keys = study.asks === "ratings"
    ? [element("kbd", {}, "1"), " to ", element("kbd", {}, "5"), " rate the marked description, ", element("kbd", {}, "↑"), " ", element("kbd", {}, "↓"), " mark another, ", element("kbd", {}, "b"), " makes it the best, ", element("kbd", {}, "Enter"), " goes on, ", element("kbd", {}, "Backspace"), " goes back."]
    : [element("kbd", {}, "1"), " to ", element("kbd", {}, "9"), ", ", element("kbd", {}, "0"), ", ", element("kbd", {}, "-"), ", ", element("kbd", {}, "="), " choose a picture, ", element("kbd", {}, "n"), " none, ", element("kbd", {}, "Enter"), " goes on, ", element("kbd", {}, "Backspace"), " goes back."];
  return [
    element("h1", {}, resumed ? "Welcome back" : "What is asked"),
    ...study.instructions.map(text => element("p", {}, text)),
    element("p", { class: "soft keys" }, "Keys: ", ...keys),
    keeps ? element("p", { class: "soft" }, "You may close this page and open it again in the same browser: it goes on where you were.")
      : element("p", { class: "bad" }, "This browser does not keep your answers when the page is closed. Please answer in one go."),
    ...(known ? [] : [element("p", {}, element("label", { for: "rater" }, "Your name or number, if you were given one:"), element("br"), name)]),
    bar(element("p", {}, ""), element("button", { type: "button", class: "step next", onclick: begin }, resumed ? "go on" : "start")),
  ];
}
function question(item) {
  const answer = answerOf(item), practice = state.step < study.practice.length;
  const message = element("p", { role: "alert" });
  const refresh = () => { save(); message.textContent = ""; shown(item, answer); };
  const next = () => {
    const lacking = missing(item, answer);
    if (lacking) { message.className = "bad"; message.textContent = lacking; markMissing(item, answer); return; }
    if (practice) {
      const [kind, text] = feedback(item, answer);
      if (kind === "bad") { message.className = kind; message.textContent = text; return; }
    }
    go(state.step + 1);
  };
  question.next = next; question.item = item; question.answer = answer; question.refresh = refresh;
  startClock(answer);
  const back = element("button", { type: "button", class: "step", onclick: () => go(state.step - 1) }, "back");
  const on = element("button", { type: "button", class: "step next", onclick: next }, "next");
  return [
    ...(practice ? [element("p", { class: "soft" }, "Practice: this does not count.")] : []),
    element("h1", {}, item.asks === "pictures" ? `Which pictures does “${item.labels[0].text}” describe?` : "Does each description fit most of these pictures?"),
    pictures(item, answer, refresh),
    ...(item.asks === "pictures" ? [none(answer, refresh)] : item.labels.map((label, i) => rated(item, answer, label, i))),
    bar(back, message, on),
  ];
}
function shown(item, answer) { // what is chosen, in place, so that the focus stays where it is
  if (item.asks === "pictures") {
    main.querySelectorAll(".picture").forEach((one, place) => one.setAttribute("aria-pressed", String(answer.chosen.includes(place))));
    document.getElementById("none").checked = answer.none;
    return;
  }
  for (const box of boxes()) {
    for (const input of box.querySelectorAll(".scale input")) input.checked = answer.ratings[box.dataset.label] === Number(input.value);
    const best = box.querySelector(".best input");
    if (best) best.checked = answer.best === box.dataset.label;
  }
  marks();
}
function none(answer, refresh) {
  const input = element("input", { type: "checkbox", id: "none" });
  input.addEventListener("change", () => { answer.none = input.checked; if (answer.none) answer.chosen = []; refresh(); });
  return element("label", { class: "none" }, input, "none of them");
}
function rated(item, answer, label, i) {
  const box = element("fieldset", { "data-label": label.id }, element("legend", {}, label.text));
  const scale = element("div", { class: "scale" });
  for (const value of study.scale) {
    const input = element("input", { type: "radio", name: `rate-${label.id}`, value: String(value), "aria-label": `${value} of 5: ${study.meanings[value - 1]}` });
    input.addEventListener("change", () => { answer.ratings[label.id] = value; active = i; save(); marks(); });
    scale.append(element("label", { title: study.meanings[value - 1] }, input, String(value)));
  }
  const ends = element("div", { class: "ends" }, element("span", { "aria-hidden": "true" }, study.meanings[0]));
  if (needsBest(item)) {
    const input = element("input", { type: "radio", name: "best", value: label.id, "aria-label": `best: ${label.text}` });
    input.addEventListener("change", () => { answer.best = label.id; active = i; save(); marks(); });
    ends.append(element("label", { class: "best" }, input, "best"));
  } else ends.append(element("span"));
  ends.append(element("span", { "aria-hidden": "true" }, study.meanings[4]));
  box.append(scale, ends);
  box.addEventListener("focusin", () => { active = i; marks(); });
  return box;
}
function boxes() { return [...main.querySelectorAll("fieldset")]; }
function marks() { boxes().forEach((box, i) => { box.classList.toggle("active", i === active); box.classList.remove("missing"); }); }
function markMissing(item, answer) {
  if (item.asks === "pictures") return;
  const lacking = boxes().find(box => !answer.ratings[box.dataset.label]);
  if (lacking) { active = boxes().indexOf(lacking); marks(); lacking.classList.add("missing"); lacking.scrollIntoView({ block: "center" }); }
}
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || large.open || event.target.matches("input[type=text]")) return;
  if (welcoming) { if (event.key === "Enter") { event.preventDefault(); begin(); } return; }
  if (state.step >= steps.length) return;
  const { item, answer, refresh, next } = question, pressed = event.key;
  const done = () => event.preventDefault();
  if (pressed === "Enter" && !event.target.matches("button")) { done(); next(); }
  else if (pressed === "Backspace") { done(); go(state.step - 1); }
  else if (item.asks === "pictures") {
    const place = "1234567890-=".indexOf(pressed);
    if (pressed.length === 1 && place >= 0 && place < item.pictures) { done(); toggle(answer, place); refresh(); }
    else if (pressed === "n") { done(); answer.none = true; answer.chosen = []; refresh(); }
  } else if (/^[1-5]$/.test(pressed)) {
    done();
    answer.ratings[item.labels[active].id] = Number(pressed);
    active = Math.min(active + 1, item.labels.length - 1);
    refresh(); reveal();
  } else if (pressed === "b" && needsBest(item)) { done(); answer.best = item.labels[active].id; refresh(); reveal(); }
  else if (pressed === "ArrowDown" || pressed === "ArrowUp") {
    done();
    active = Math.max(0, Math.min(item.labels.length - 1, active + (pressed === "ArrowDown" ? 1 : -1)));
    if (event.target.blur && event.target !== document.body) event.target.blur();
    marks(); reveal();
  }
});
function reveal() { const box = boxes()[active]; if (box) box.scrollIntoView({ block: "nearest" }); }

function answers() {
  return { format: study.format, study: study.study, page: study.page, rater: state.rater, answers: study.items.map(item => {
    const { seconds, ratings, best, chosen } = answerOf(item), base = { item: item.id, seconds: Math.round(Math.min(seconds, 86400) * 10) / 10 };
    return item.asks === "pictures" ? { ...base, chosen } : { ...base, ratings, best };
  }) };
}
function end() {
  const message = element("p", { role: "alert" });
  const open = study.items.findIndex(item => missing(item, answerOf(item)));
  if (open >= 0) { // an answer was undone on the way back
    return [element("h1", {}, "One question is still open"), bar(element("p", {}, ""), element("button", { type: "button", class: "step next", onclick: () => go(study.practice.length + open) }, "show it"))];
  }
  const thanks = element("p", { class: "good" });
  const body = () => state.body || JSON.stringify(answers(), null, 1);
  const finished = () => {
    thanks.textContent = study.code ? `Thank you. Your completion code: ${study.code}` : "Thank you. You may close this page.";
  };
  if (state.arrived) finished();
  const download = () => {
    const link = element("a", { href: URL.createObjectURL(new Blob([body()], { type: "application/json" })), download: `answers-${study.page}.json` });
    link.click();
    if (!study.post) { state.arrived = true; save(); finished(); }
  };
  const send = async () => {
    state.body = body(); save(); // a second try sends the same
    back.remove();
    message.className = "soft"; message.textContent = "Sending ...";
    try {
      const reply = await fetch(study.post, { method: "POST", headers: { "Content-Type": "text/plain" }, body: state.body });
      if (!reply.ok) throw new Error((await reply.text()).slice(0, 300) || `the server says ${reply.status}`);
      message.className = "good"; message.textContent = "Your answers have arrived.";
      state.arrived = true; save(); finished();
    } catch (error) {
      message.className = "bad"; message.textContent = `Your answers did not arrive (${error.message}). Try again, or download them and send the file.`;
    }
  };
  const back = element("button", { type: "button", class: "step", onclick: () => go(steps.length - 1) }, "back");
  return [
    element("h1", {}, "That was all"),
    element("p", {}, study.post ? "Please send your answers." : "Please download your answers and send the file to whoever asked you."),
    message, thanks,
    element("p", {}, ...(study.post ? [element("button", { type: "button", id: "send", class: "step next", onclick: send }, "send answers"), " "] : []),
      element("button", { type: "button", id: "download", class: study.post ? "step" : "step next", onclick: download }, "download answers")),
    bar(...(state.body ? [] : [back]), element("p", {}, "")),
  ];
}
show();
