// What the pages do beyond links and forms: colours, keys, forms that answer at once, pages that follow a run, values
// under the pointer. Every page works without it. It makes no element out of text: pages come from the server, escaped.
(function () {
  "use strict";
  var root = document.documentElement, store = {
    get: function (name) { try { return localStorage.getItem(name); } catch (_) { return null; } },
    set: function (name, value) { try { localStorage.setItem(name, value); } catch (_) { /* private window */ } }
  };
  var themes = ["auto", "light", "dark"], theme = themes.indexOf(store.get("theme")) > 0 ? store.get("theme") : "auto";
  function paint() {
    if (theme === "auto") root.removeAttribute("data-theme"); else root.setAttribute("data-theme", theme);
    var button = document.getElementById("theme");
    if (button) { button.textContent = theme; button.setAttribute("aria-label", "Colours: " + theme); button.hidden = false; }
  }
  root.classList.add("js");
  paint();

  function all(selector, from) { return Array.prototype.slice.call((from || document).querySelectorAll(selector)); }
  function one(selector) { return document.querySelector(selector); }
  function main() { return document.getElementById("main"); }

  // --- Pages that change in place ---------------------------------------------------------------------------
  var asked = 0, version = "";
  function show(address) {
    var mine = ++asked;
    return fetch(address, { credentials: "same-origin" }).then(function (answer) {
      return answer.text().then(function (text) {
        if (mine !== asked) return;
        var page = new DOMParser().parseFromString(text, "text/html"), fresh = page.getElementById("main");
        if (!fresh) return;
        version = page.body.dataset.version || version;
        keep(fresh);
        history.replaceState(null, "", address);
        document.title = page.title;
        prepare();
      });
    });
  }
  // Put the new page in the place of the old one; what is open, focused, typed or scrolled stays so.
  function keep(fresh) {
    var old = main(), focus = document.activeElement, id = focus && old.contains(focus) ? focus.id : "";
    var caret = id && focus.type === "search" ? focus.selectionStart : null, typed = id && focus.type === "search" ? focus.value : null;
    var open = {}, scrolled = {}, row = one("tr.at a.open"), at = row && row.getAttribute("href");
    all("details[data-keep]", old).forEach(function (box) { open[box.dataset.keep] = box.open; });
    all("[data-scroll]", old).forEach(function (box) { scrolled[box.dataset.scroll] = box.scrollTop; });
    old.replaceWith(document.adoptNode(fresh));
    all("details[data-keep]", fresh).forEach(function (box) { if (box.dataset.keep in open) box.open = open[box.dataset.keep]; });
    if (at) all("tr a.open", fresh).forEach(function (link) { if (link.getAttribute("href") === at) link.closest("tr").classList.add("at"); });
    var again = id && document.getElementById(id);
    if (again) {
      again.focus({ preventScroll: true });
      if (typed !== null) again.value = typed;
      if (caret !== null) again.setSelectionRange(caret, caret);
    }
    narrow();
    all("[data-scroll]", fresh).forEach(function (box) { box.scrollTop = scrolled[box.dataset.scroll] || 0; });
  }
  function addressOf(form) {
    var query = new URLSearchParams();
    new FormData(form).forEach(function (value, name) { if (value !== "") query.append(name, value); });
    var text = query.toString();
    return form.getAttribute("action") + (text ? "?" + text : "");
  }
  var waiting = 0;
  document.addEventListener("submit", function (event) {
    if (!event.target.matches("form[data-auto]")) return;
    event.preventDefault();
    show(addressOf(event.target));
  });
  document.addEventListener("input", function (event) {
    var field = event.target, form = field.form;
    if (field.matches("[data-narrow]")) { narrow(); return; }
    if (!form || !form.matches("form[data-auto]")) return;
    if (field.type === "range") { var told = form.querySelector("output[for='" + field.id + "']"); if (told) told.textContent = field.value; }
    clearTimeout(waiting);
    var typing = field.matches("input[type=search], input[type=number], input[type=range]");
    waiting = setTimeout(function () { show(addressOf(form)); }, typing ? 180 : 0);
  });
  function narrow() {
    all("[data-narrow]").forEach(function (field) {
      var wanted = field.value.trim().toLowerCase();
      all(field.dataset.narrow).forEach(function (row) { row.hidden = row.textContent.toLowerCase().indexOf(wanted) < 0; });
      all(".metrics fieldset").forEach(function (group) { group.hidden = !group.querySelector("label:not([hidden])"); });
    });
  }

  // --- Following a run --------------------------------------------------------------------------------------
  function follow() {
    var busy = one(":is(dialog[open])") || String(getSelection()) || (document.activeElement && document.activeElement.matches("input[type=range]:active, select:focus"));
    if (document.hidden || busy) { setTimeout(follow, 1500); return; }
    fetch("/state", { credentials: "same-origin" }).then(function (answer) { return answer.json(); }).then(function (state) {
      var reading = state.done < state.total;
      tell("on", reading ? "reading " + Math.floor(100 * state.done / state.total) + " %" : "live");
      var pinned = location.pathname.indexOf("/episode/") === 0 || location.pathname === "/side";
      if (state.version !== version && !pinned) return show(location.href);
    }).catch(function () { tell("off", "the viewer has stopped"); }).then(function () { setTimeout(follow, 2000); });
  }
  function tell(state, text) {
    var light = document.getElementById("live");
    if (!light || light.lastElementChild.textContent === text) return;
    light.className = "live " + state;
    light.lastElementChild.textContent = text;
  }

  // --- Keys -------------------------------------------------------------------------------------------------
  var before = "";
  function go(link) { if (link) location.href = link.href; }
  function step(by) {
    var rows = all("[data-rows] tbody tr");
    if (!rows.length) { go(one(by > 0 ? "a[rel=next]" : "a[rel=prev]")); return; }
    var at = rows.findIndex(function (row) { return row.classList.contains("at"); });
    var next = Math.max(0, Math.min(rows.length - 1, at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by));
    if (at >= 0) rows[at].classList.remove("at");
    rows[next].classList.add("at");
    rows[next].querySelector("a.open").focus({ preventScroll: true });
    rows[next].scrollIntoView({ block: "nearest" });
  }
  document.addEventListener("keydown", function (event) {
    var field = event.target.matches("input, select, textarea") && !event.target.matches("input[type=checkbox], input[type=radio]");
    if (event.key === "Escape" && field) { event.target.blur(); return; }
    if (event.ctrlKey || event.metaKey || event.altKey || field || one("dialog[open]")) return;
    var key = event.key, went = true;
    if (before === "g" && one("[data-go='" + CSS.escape(key) + "']")) go(one("[data-go='" + CSS.escape(key) + "']"));
    else if (key === "/" && document.getElementById("search")) document.getElementById("search").focus();
    else if (key === "j") step(1);
    else if (key === "k") step(-1);
    else if (key === "u") go(one("[data-up]"));
    else if (key === "s") go(one("[data-side]"));
    else if (key === "t") turn();
    else if (key === "?" && one("#help")) one("#help").showModal();
    else if (/^[1-9]$/.test(key) && one("[data-view='" + key + "']")) go(one("[data-view='" + key + "']"));
    else went = false;
    before = key;
    if (went) event.preventDefault();
  });
  function turn() { theme = themes[(themes.indexOf(theme) + 1) % 3]; store.set("theme", theme); paint(); }
  document.addEventListener("click", function (event) {
    if (event.target.closest("#theme")) { turn(); return; }
    if (event.target.closest("#keys")) { one("#help").showModal(); return; }
    if (event.target.id === "help") { event.target.close(); return; }
    var row = event.target.closest("[data-rows] tbody tr");
    if (row && !event.target.closest("a, button, input") && !String(getSelection())) go(row.querySelector("a.open"));
  });

  // --- Values under the pointer -----------------------------------------------------------------------------
  var tip = null;
  function points(path) {
    if (!path.points) path.points = (path.getAttribute("d").match(/[ML][^ML]+/g) || []).map(function (part) { return part.slice(1).split(" ").map(Number); });
    return path.points;
  }
  document.addEventListener("pointermove", function (event) {
    var svg = event.target.closest && event.target.closest("svg[data-box]");
    if (!svg || svg.closest(".spark")) { if (tip) tip.hidden = true; return; }
    var box = svg.dataset.box.split(" ").map(Number), span = svg.dataset.span.split(" ").map(Number), frame = svg.getBoundingClientRect();
    var scale = svg.viewBox.baseVal.width / frame.width, x = (event.clientX - frame.left) * scale;
    var lines = all("path[data-label]:not(.faint)", svg).map(function (path) {
      var best = null;
      points(path).forEach(function (point) { if (!best || Math.abs(point[0] - x) < Math.abs(best[0] - x)) best = point; });
      return best && { label: path.dataset.label, kind: path.getAttribute("class"), x: best[0], y: best[1] };
    }).filter(Boolean);
    if (!lines.length || x < box[0] - 8 || x > box[2] + 8) { if (tip) tip.hidden = true; return; }
    if (!tip) { tip = document.createElement("div"); tip.className = "tip num"; tip.setAttribute("aria-hidden", "true"); document.body.appendChild(tip); }
    var near = lines.reduce(function (a, b) { return Math.abs(a.x - x) <= Math.abs(b.x - x) ? a : b; });
    var unit = (span[1] - span[0]) / (box[2] - box[0]), at = span[0] + (near.x - box[0]) * unit;
    if (Math.abs(at - Math.round(at)) < 0.1 * unit) at = Math.round(at);
    tip.replaceChildren();
    var head = document.createElement("b");
    head.textContent = String(+at.toPrecision(4));
    tip.appendChild(head);
    lines.forEach(function (line) {
      var row = document.createElement("span"), mark = document.createElement("i");
      mark.className = line.kind;
      row.appendChild(mark);
      var value = span[2] + (box[3] - line.y) / (box[3] - box[1]) * (span[3] - span[2]);
      row.appendChild(document.createTextNode((lines.length > 1 ? line.label + "  " : "") + +value.toPrecision(4)));
      tip.appendChild(row);
    });
    tip.hidden = false;
    var left = frame.left + near.x / scale + 14;
    if (left + tip.offsetWidth > innerWidth - 8) left -= tip.offsetWidth + 28;
    tip.style.left = Math.max(4, left) + "px";
    tip.style.top = Math.max(4, frame.top + box[1] / scale) + "px";
  });

  // --- The filter of the report -----------------------------------------------------------------------------
  function local() {
    var form = one(".filters[data-local]");
    if (!form) return;
    var episodes = all(".episode");
    function filter() {
      var verdict = form.elements.verdict.value, file = form.elements.file.value, shown = 0;
      episodes.forEach(function (episode) {
        var fits = (verdict === "all" || episode.dataset.verdict === verdict) && (!file || episode.dataset.file === file);
        episode.hidden = !fits;
        shown += fits;
      });
      document.getElementById("count").textContent = shown + " of " + episodes.length;
    }
    form.hidden = false;
    form.addEventListener("change", filter);
    filter();
  }
  function prepare() { paint(); all("#keys").forEach(function (button) { button.hidden = false; }); }
  function start() {
    prepare();
    local();
    version = document.body.dataset.version || "";
    if (version) follow();
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start); else start();
})();
