
"use strict";
const { name, key } = document.body.dataset;
const find = (id) => document.getElementById(id);
let current = null, shownAt = 0, busy = false, back = 0;

// Texts are data: they are put into the page as text and never as HTML.
function show(id, messages) {
  const parts = [];
  for (const { role, text } of messages) {
    const label = document.createElement("p");
    label.className = "role";
    label.textContent = role;
    const body = document.createElement("pre");
    body.className = role;
    body.textContent = text;
    parts.push(label, body);
  }
  find(id).replaceChildren(...parts);
}

function note(text, bad = false) {
  find("note").textContent = text;
  find("note").className = bad ? "bad" : "";
}

function enable(on) {
  for (const button of document.querySelectorAll("button[data-rating]")) button.disabled = !on;
}

async function ask(path, options = {}) {
  const answer = await fetch(`/a/${name}/${path}`, { ...options, headers: { ...options.headers, "X-Annotate-Key": key } });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

async function load() {
  const item = await ask(back ? `item?back=${back}` : "item");
  find("progress").textContent = `${item.labelled} of ${item.total} compared`;
  current = item.done ? null : item.item;
  enable(!item.done);
  if (item.done) {
    for (const id of ["prompt", "left", "right"]) find(id).replaceChildren();
    note("All are compared. Thank you; you may close this page.");
    return;
  }
  for (const id of ["prompt", "left", "right"]) show(id, item[id]);
  for (const button of document.querySelectorAll("button[data-rating]"))
    button.classList.toggle("said", item.rating !== null && Number(button.dataset.rating) === item.rating);
  note(back ? "You have judged this one before; judge it again, or press Escape to go on." : "");
  scrollTo(0, 0);
  shownAt = performance.now();
}

async function run(step) {
  if (busy) return;
  busy = true;
  try { await step(); }
  catch (error) { note(`Not saved: ${error.message || error}`, true); }
  finally { busy = false; }
}

function rate(rating) {
  if (current === null) return;
  run(async () => {
    const seconds = (performance.now() - shownAt) / 1000;
    const body = JSON.stringify({ item: current, rating, seconds });
    await ask("label", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    back = 0;
    await load();
  });
}

const goBack = () => run(async () => { back += 1; await load(); });
const goOn = () => run(async () => { back = 0; await load(); });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (/^[1-8]$/.test(event.key)) rate(Number(event.key));
  else if (event.key === "s") rate(0);
  else if (event.key === "u") goBack();
  else if (event.key === "Escape" && back) goOn();
});
for (const button of document.querySelectorAll("button[data-rating]"))
  button.addEventListener("click", () => { button.blur(); rate(Number(button.dataset.rating)); });
find("back").addEventListener("click", () => { find("back").blur(); goBack(); });
run(load);
