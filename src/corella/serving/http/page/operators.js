"use strict";
const at = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(share < 0.1 ? 1 : 0) + " %";
const ms = (value) => (value < 10 ? value.toFixed(1) : Math.round(value)) + " ms";
const NAMES = { crm: "conventional model alone", llm: "with the language model" };
const REASONS = { deadline: "no answer by the deadline", overload: "no time for it left", loading: "the language model was still loading", fault: "the language model was not there" };

function tile(title, value, trouble = false) {
  return element("div", { class: trouble ? "tile trouble" : "tile" }, element("b", {}, value), title);
}

function rows(table, lines, none) {
  const body = at(table).tBodies[0];
  const made = lines.map((line) => element("tr", {}, ...line.map((cell) => element("td", {}, String(cell)))));
  body.replaceChildren(...(made.length ? made : [element("tr", {}, element("td", { colspan: 5, class: "quiet" }, none))]));
}

async function refresh() {
  try {
    const t = await call("v1/traffic"), last = t.window;
    at("tiles").replaceChildren(
      tile("requests", last.requests.toLocaleString()), tile("items scored", last.items.toLocaleString()),
      tile("routed to the language model", percent(last.share_routed)), tile("answered by it", percent(last.share_answered)),
      tile("language model", t.engine, t.engine !== "ready"), tile("its speed counted on", t.trust === null ? "none" : percent(t.trust), t.trust !== null && t.trust < 0.3),
      tile("store of answers", t.store ? "ok" : "does not answer", !t.store), tile("the loop is late by", ms(1000 * t.lag), t.lag > 0.1),
    );
    drawTraffic(at("traffic"), last.slots);
    rows("latency", Object.entries(last.latency).map(([path, l]) => [NAMES[path], l.requests, ms(l.p50), ms(l.p95), ms(l.p99)]), "no requests yet");
    rows("fallbacks", Object.entries(last.fallbacks).map(([reason, n]) => [REASONS[reason] || reason, n]), "none");
    at("says").textContent = "The last ten minutes, anew every two seconds.";
    at("says").classList.remove("trouble");
  } catch (error) {
    at("says").textContent = String(error.message || error);
    at("says").classList.add("trouble");
  }
}

refresh();
setInterval(refresh, 2000);
