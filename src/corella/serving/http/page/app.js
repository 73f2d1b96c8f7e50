"use strict";
const at = (id) => document.getElementById(id);
const state = { described: false, answers: [], chosen: [], places: new Map(), curve: null, running: 0, mode: "recommend" };
const REASONS = { deadline: "no answer in time", overload: "no time for it left", loading: "language model still loading", fault: "language model not there" };

function say(text, trouble = false) {
  at("says").textContent = text;
  at("says").classList.toggle("trouble", trouble);
}

function later(milliseconds, action) {
  let timer;
  return (...given) => { clearTimeout(timer); timer = setTimeout(() => action(...given), milliseconds); };
}

function asking() {
  const wanted = { share: at("share").value / 100, deadline_ms: Number(at("deadline").value) };
  if (!state.described) return { ...wanted, user_id: at("user").value.trim() };
  const text = at("profile").value.trim();
  const history = state.answers.slice().reverse().map((a) => ({ item_id: a.item_id, liked: a.liked }));
  return { ...wanted, history, profile: { text: text || "A user. Likes it?" } };
}

// Results.

function meter(kind, value, most = 1) {
  const inner = element("i");
  inner.style.width = Math.min(100, (100 * value) / most) + "%";
  return element("span", { class: "meter " + kind, "aria-hidden": "true" }, inner);
}

function moved(item, place) {
  const before = state.places.get(item.item_id);
  if (!state.places.size || before === place) return null;
  if (before === undefined) return element("span", { class: "moved new" }, "new");
  const up = before > place;
  return element("span", { class: "moved " + (up ? "up" : "down"), title: "was " + before }, (up ? "▲" : "▼") + Math.abs(before - place));
}

function decided(item) {
  const kind = item.fallback ? "fallback" : item.llm_probability !== null ? "llm" : "crm";
  const text = { fallback: "fallback", llm: "both models", crm: "conventional" }[kind];
  const why = item.why + (item.fallback ? "; " + REASONS[item.fallback] : "");
  return element("td", { class: "who", "data-label": "decided by" }, element("span", { class: "badge " + kind }, text), element("span", { class: "why" }, why));
}

function resultRow(item, place) {
  const llm = item.llm_probability;
  const number = (label, ...parts) => element("td", { class: "number", "data-label": label }, ...parts);
  const buttons = ["like", "dislike"].map((word) => element("button", {
    class: "small", "aria-label": `${word} ${item.text}`, onclick: () => answer(item, word === "like"),
  }, word));
  return element("tr", {},
    element("td", { "data-label": "" }, String(place), moved(item, place)), element("td", { class: "item", "data-label": "" }, item.text),
    number("final", meter("", item.probability), item.probability.toFixed(3)),
    number("conventional", meter("", item.crm_probability), item.crm_probability.toFixed(3)),
    number("language model", llm === null ? "" : meter("l", llm), llm === null ? "–" : llm.toFixed(3)),
    number("unsure", meter("u", item.crm_entropy, Math.LN2), Math.round((100 * item.crm_entropy) / Math.LN2) + " %"),
    decided(item), element("td", { class: "answer", "data-label": "" }, element("span", { class: "row" }, ...buttons)));
}

async function run(mode = state.mode) {
  const who = asking();
  if (who.user_id === "") return say("Choose a user first.");
  if (mode === "score" && !state.chosen.length) mode = "recommend";
  state.mode = mode;
  const turn = ++state.running;
  say("asking…");
  try {
    const body = mode === "score" ? { ...who, items: state.chosen.map((i) => i.item_id) } : { ...who, k: 12 };
    const found = await call(mode === "score" ? "v1/score" : "v1/recommend", body);
    if (turn !== state.running) return;
    if (mode === "score") found.items.sort((a, b) => b.probability - a.probability);
    at("results-title").textContent = mode === "score" ? "Chosen items" : "Recommendations";
    at("results").tBodies[0].replaceChildren(...found.items.map((item, n) => resultRow(item, n + 1)));
    state.places = new Map(found.items.map((item, n) => [item.item_id, n + 1]));
    const t = found.milliseconds;
    say(`${t.total.toFixed(0)} ms: conventional model and router ${t.crm.toFixed(0)} ms` + (t.llm === null ? "" : `, language model ${t.llm.toFixed(0)} ms`) +
      `; ${Math.round(100 * found.share_routed)} % of the ${mode === "score" ? "items" : "candidates"} were routed.`);
  } catch (error) {
    if (turn === state.running) say(String(error.message || error), true);
  }
}

// Who, and what they have answered.

async function loadUser() {
  const id = at("user").value.trim();
  if (state.described || !id) return showHistory();
  try {
    const found = await call(`v1/users/${encodeURIComponent(id)}/history?limit=50`);
    at("user-text").textContent = found.text || (found.answers ? "" : "Nobody with this id has answered anything: a new user.");
    state.answers = found.history;
    showHistory(found.answers);
  } catch (error) { say(String(error.message || error), true); }
}

function showHistory(count = state.answers.length) {
  at("answers").textContent = count ? `${count} answers, newest first` : "empty";
  at("history").replaceChildren(...state.answers.map((a) => element("li", {},
    element("span", {}, a.text), element("span", { class: a.liked ? "liked" : "disliked" }, a.liked ? "liked" : "disliked"))));
}

async function answer(item, liked) {
  if (state.described) {
    state.answers = [{ ...item, liked }, ...state.answers.filter((a) => a.item_id !== item.item_id)];
    showHistory();
  } else {
    const user = at("user").value.trim();
    if (!user) return say("Choose a user first.");
    try { await call("v1/events", { user_id: user, item_id: item.item_id, liked }); } catch (error) { return say(String(error.message || error), true); }
    await loadUser();
  }
  await run();
}

function describe(described) {
  state.described = described;
  for (const [tab, panel, on] of [["tab-known", "known", !described], ["tab-described", "described", described]]) {
    at(tab).setAttribute("aria-selected", String(on));
    at(panel).hidden = !on;
  }
  state.answers = [];
  state.places = new Map();
  at("results").tBodies[0].replaceChildren();
  described ? showHistory() : loadUser();
}

// Finding items.

async function search() {
  const words = at("search").value.trim();
  if (!words) return at("found").replaceChildren();
  const found = await call("v1/items/search?limit=12&q=" + encodeURIComponent(words));
  at("found").replaceChildren(...found.map((item) => element("li", {}, element("span", {}, item.text),
    element("button", { class: "small", "aria-label": "like " + item.text, onclick: () => answer(item, true) }, "like"),
    element("button", { class: "small", "aria-label": "dislike " + item.text, onclick: () => answer(item, false) }, "dislike"),
    element("button", { class: "small", "aria-label": "choose " + item.text, onclick: () => choose(item) }, "choose"))));
}

function choose(item) {
  if (!state.chosen.some((i) => i.item_id === item.item_id)) state.chosen.push(item);
  at("score").hidden = false;
  at("score").textContent = `Score ${state.chosen.length} chosen`;
}

// The budget.

function showBudget() {
  const share = at("share").value / 100;
  at("share-text").textContent = `${at("share").value} %`;
  at("deadline-text").textContent = `${at("deadline").value} ms`;
  const points = state.curve?.curve || [];
  if (points.length < 2) return (at("budget-says").textContent = "This run was not evaluated, so there is no curve: corella evaluate.");
  const { here, none } = drawCurve(at("curve"), points, share);
  const gain = here - none;
  at("budget-says").textContent = `On test rows: AUC ${here.toFixed(4)}, ${gain >= 0 ? "+" : "−"}${Math.abs(gain).toFixed(4)} against asking nobody; ` +
    `a new item costs ${state.curve.milliseconds_per_item.toFixed(0)} ms of language model where training ran, so ${(share * state.curve.milliseconds_per_item).toFixed(1)} ms an item at this share.`;
}

async function start() {
  const again = later(250, () => { if (state.places.size) run(); });
  for (const id of ["share", "deadline"]) at(id).addEventListener("input", () => { showBudget(); again(); });
  at("recommend").addEventListener("click", () => run("recommend"));
  at("score").addEventListener("click", () => run("score"));
  at("tab-known").addEventListener("click", () => describe(false));
  at("tab-described").addEventListener("click", () => describe(true));
  at("search").addEventListener("input", later(200, () => search().catch((error) => say(String(error.message || error), true))));
  at("user").addEventListener("input", later(200, async () => {
    const found = await call("v1/users/search?q=" + encodeURIComponent(at("user").value.trim())).catch(() => []);
    at("users").replaceChildren(...found.map((id) => element("option", { value: id })));
  }));
  at("user").addEventListener("change", async () => { state.places = new Map(); await loadUser(); await run("recommend"); });
  try {
    state.curve = await call("v1/curve");
    at("share").value = Math.round(100 * state.curve.share);
    at("deadline").value = state.curve.deadline_ms;
    showBudget();
    const [first] = await call("v1/users/search?limit=1");
    if (first) { at("user").value = first; await loadUser(); await run("recommend"); }
  } catch (error) { say(String(error.message || error), true); }
}

start();
