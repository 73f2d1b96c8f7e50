"use strict";
const at = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(share < 0.1 ? 1 : 0) + " %";
const ms = (value) => (value < 10 ? value.toFixed(1) : Math.round(value)) + " ms";
const NAMES = { crm: "conventional model alone", llm: "with the language model" };
const REASONS = { deadline: "no answer by the deadline", overload: "no time for it left", budget: "the budget was spent", loading: "the language model was still loading", fault: "the language model was not there" };

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
      tile("store of answers", t.store ? "ok" : "does not answer", !t.store), tile("the loop is late by", ms(1000 * t.lag), t.lag > 0.1), tile("model", t.version || "unnamed"),
    );
    at("problems-panel").hidden = !t.problems.length;
    at("problems").replaceChildren(...t.problems.map((p) => element("li", {}, element("b", {}, p.part), ": " + p.cause)));
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

const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(4);

async function refreshSlowly() {
  try {
    const e = await call("v1/experiment"), v = await call("v1/versions");
    at("experiment-says").textContent = e.said + (e.lost ? ` ${e.lost} pages were not kept.` : "");
    at("experiment").hidden = !e.standing;
    rows("experiment", (e.standing?.arms || []).map((a) => [a.name, a.users.toLocaleString(), a.complete.toLocaleString(), percent(a.rate)]), "none");
    rows("versions", v.versions.map((one) => {
      const c = one.compared;
      return [one.name, one.made || "the run itself", c ? `${c.after.toFixed(4)}, ${c.before.toFixed(4)}` : "–", c ? `${signed(c.mean)} [${signed(c.low)}, ${signed(c.high)}]` : "–", one.name === v.serving ? "serves" : ""];
    }), "none");
  } catch (error) { at("experiment-says").textContent = String(error.message || error); }
}

refresh();
refreshSlowly();
setInterval(refresh, 2000);
setInterval(refreshSlowly, 10000);
