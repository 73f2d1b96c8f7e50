"use strict";
const state = { described: false, answers: [], places: new Map(), curve: null, running: 0, shown: 12, writes: new Set() };
const PAGE = 12;

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
  return { ...wanted, history, ...(text ? { profile: { text } } : {}) };
}

// Where the focus is, so that it stays when the list is drawn anew: on the same button of the same place.
function focused() {
  const button = document.activeElement?.closest?.("#results [data-answer]");
  if (!button) return null;
  const place = [...at("results").children].indexOf(button.closest("li"));
  return () => (at("results").children[place] || at("results").lastElementChild)?.querySelector(`[data-answer=${button.dataset.answer}]`)?.focus();
}

async function run({ more = false, keepFocus = false } = {}) {
  const who = asking();
  if (who.user_id === "") return say("Choose a user first.");
  const turn = ++state.running;
  if (!more && !keepFocus) state.shown = PAGE;
  if (more) state.shown += PAGE;
  say("asking…");
  try {
    const k = Math.min(state.shown, 100);
    const found = await call("v1/recommend", { ...who, k, filters: filters(), explain: true, candidates: 100 });
    if (turn !== state.running) return;
    const focus = keepFocus ? focused() : null;
    at("results").replaceChildren(...found.items.map((item, n) => card(item, n + 1)));
    state.places = new Map(found.items.map((item, n) => [item.item_id, n + 1]));
    at("more").hidden = !found.more || k >= 100;
    if (more) at("results").children[k - PAGE]?.querySelector("a")?.focus();
    focus?.();
    if (!found.items.length) return say("Nothing is left to recommend here.");
    const t = found.milliseconds;
    const by = found.by === "popular" ? "What is popular now, for nothing is known of this person yet. " : "";
    say(`${by}${t.total.toFixed(0)} ms` + (t.llm === null ? "" : `, of these the language model ${t.llm.toFixed(0)} ms`) +
      `; ${Math.round(100 * found.share_routed)} % of the candidates went to the language model.`);
  } catch (error) {
    if (turn === state.running) say(String(error.message || error), true);
  }
}

// The budget.

function showBudget() {
  const share = at("share").value / 100;
  at("share-text").textContent = `${at("share").value} %`;
  at("deadline-text").textContent = `${at("deadline").value} ms`;
  const points = state.curve?.curve || [];
  if (points.length < 2) {
    at("curve").closest("figure").hidden = true;
    return (at("budget-says").textContent = "This run was not evaluated, so there is no curve: corella evaluate.");
  }
  const { here, none } = drawCurve(at("curve"), points, share);
  const gain = here.auc - none.auc;
  at("budget-says").textContent = `On test rows: AUC ${here.auc.toFixed(4)} [${here.low.toFixed(4)}, ${here.high.toFixed(4)}], ${gain >= 0 ? "+" : "−"}${Math.abs(gain).toFixed(4)} against asking nobody. ` +
    `A new item costs ${state.curve.milliseconds_per_item.toFixed(0)} ms of language model where training ran, so ${(share * state.curve.milliseconds_per_item).toFixed(1)} ms an item at this share.`;
}

async function start() {
  const again = later(250, () => { if (state.places.size) run(); });
  for (const id of ["share", "deadline"]) at(id).addEventListener("input", () => { showBudget(); again(); });
  at("more").addEventListener("click", () => run({ more: true }));
  at("dismiss").addEventListener("click", () => { at("toast").hidden = true; });
  at("item-close").addEventListener("click", closeItem);
  at("item").addEventListener("close", closeItem);
  addEventListener("hashchange", () => { if (location.hash.startsWith("#item=")) showItem(decodeURIComponent(location.hash.slice(6))); });
  at("search").addEventListener("input", later(200, () => search().catch((error) => say(String(error.message || error), true))));
  at("profile").addEventListener("change", () => run());
  tabs();
  at("user").addEventListener("input", later(200, async () => {
    const found = await call("v1/users/search?q=" + encodeURIComponent(at("user").value.trim())).catch(() => []);
    at("users").replaceChildren(...found.map((id) => element("option", { value: id })));
  }));
  at("user").addEventListener("change", async () => { state.places = new Map(); await loadUser(); await run(); });
  try {
    state.curve = await call("v1/curve");
    at("deadline").max = state.curve.max_deadline_ms;
    at("share").value = Math.round(100 * state.curve.share);
    at("deadline").value = state.curve.deadline_ms;
    showBudget();
    await loadFields();
    const [first] = await call("v1/users/search?limit=1");
    if (first) { at("user").value = first; await loadUser(); await run(); }
    if (location.hash.startsWith("#item=")) await showItem(decodeURIComponent(location.hash.slice(6)));
  } catch (error) { say(String(error.message || error), true); }
}

start();
