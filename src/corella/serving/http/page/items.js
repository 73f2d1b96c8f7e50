"use strict";
// Items: cards in a list, an item's own page, search, filters.

const REASONS = { deadline: "no answer in time", overload: "no time for it left", budget: "the budget was spent", loading: "language model still loading", fault: "language model not there" };
const at = (id) => document.getElementById(id);

function meter(kind, value, most = 1) {
  const inner = element("i");
  inner.style.width = Math.min(100, (100 * value) / most) + "%";
  return element("span", { class: "meter " + kind, "aria-hidden": "true" }, inner);
}

function picture(item) {
  return item.image ? element("img", { src: item.image, alt: "", loading: "lazy", class: "picture" }) : null;
}

// Like, dislike, and whatever else can be said of an item.
function answers(item, ...more) {
  const buttons = ["like", "dislike"].map((word) => element("button", {
    type: "button", "data-answer": word, "aria-label": `${word} ${item.text}`, onclick: () => answer(item, word === "like"),
  }, word));
  return element("span", { class: "row" }, ...buttons, ...more);
}

function moved(item, place) {
  const before = state.places.get(item.item_id);
  if (!state.places.size || before === place) return null;
  if (before === undefined) return element("span", { class: "moved new" }, "new");
  const up = before > place;
  return element("span", { class: "moved " + (up ? "up" : "down"), title: "was " + before }, (up ? "▲" : "▼") + Math.abs(before - place));
}

function details(item) {
  const kind = item.fallback ? "fallback" : item.llm_probability !== null ? "llm" : "crm";
  const by = { fallback: "conventional models, as a fallback", llm: "both models", crm: "conventional models" }[kind];
  const llm = item.llm_probability;
  const lines = [
    ["conventional models", [meter("", item.crm_probability), item.crm_probability.toFixed(3)]],
    ["language model", llm === null ? ["not asked"] : [meter("l", llm), llm.toFixed(3)]],
    ["unsure", [meter("u", item.crm_entropy, Math.LN2), Math.round((100 * item.crm_entropy) / Math.LN2) + " %"]],
    ["decided by", [element("span", { class: "badge " + kind }, by), " " + item.why + (item.fallback ? "; " + REASONS[item.fallback] : "")]],
    ...(item.reason?.features || []).map((f) => [f.what, [(f.adds > 0 ? "+" : "−") + Math.abs(f.adds).toFixed(2) + " log-odds"]]),
  ];
  return element("details", {}, element("summary", {}, "details"),
    element("dl", {}, ...lines.flatMap(([name, said]) => [element("dt", {}, name), element("dd", {}, ...said)])));
}

function card(item, place) {
  const open = element("a", { href: "#item=" + encodeURIComponent(item.item_id) }, item.text);
  return element("li", { class: "card", "data-item": item.item_id }, picture(item),
    element("div", { class: "said" },
      element("p", { class: "title" }, element("span", { class: "place" }, String(place)), open, moved(item, place)),
      item.reason ? element("p", { class: "because" }, item.reason.sentence) : null,
      element("p", { class: "quiet" }, meter("", item.probability), `${Math.round(100 * item.probability)} % likely to be liked`),
      details(item)),
    answers(item));
}

// The item's own page: what it is, and what is like it.
async function showItem(id) {
  try {
    const item = await call("v1/items/" + encodeURIComponent(id));
    const alike = await call("v1/similar", { item_id: id, k: 8 });
    const fields = Object.entries(item.fields).map(([name, value]) => [name, [Array.isArray(value) ? value.join(", ") : String(value)]]);
    const rows = alike.items.map((other) => element("li", {}, element("a", { href: "#item=" + encodeURIComponent(other.item_id) }, other.text)));
    at("item-title").textContent = item.text;
    at("item-body").replaceChildren(
      ...[picture(item),
        element("dl", {}, ...fields.concat([["answered by", [`${item.answers.toLocaleString()} users, ${item.likes.toLocaleString()} liked it`]]])
          .flatMap(([name, said]) => [element("dt", {}, name), element("dd", {}, ...said)])),
        item.link ? element("p", {}, element("a", { href: item.link, rel: "noopener noreferrer" }, "Open its page")) : null,
        answers({ ...item, item_id: id }),
        element("h3", {}, alike.by === "text" ? "Items with a text like it" : "Items like it"),
        rows.length ? element("ul", { class: "plain" }, ...rows) : element("p", { class: "quiet" }, "None is known.")].filter(Boolean));
    if (!at("item").open) at("item").showModal();
    at("item-title").focus();
  } catch (error) { say(String(error.message || error), true); closeItem(); }
}

function closeItem() {
  if (at("item").open) at("item").close();
  if (location.hash) history.replaceState(null, "", location.pathname);
}

async function search() {
  const words = at("search").value.trim();
  at("search-says").textContent = "";
  if (!words) return at("found").replaceChildren();
  const found = await call("v1/items/search?limit=12&q=" + encodeURIComponent(words));
  if (words !== at("search").value.trim()) return;
  at("search-says").textContent = found.said;
  at("found").replaceChildren(...found.items.map((item) => element("li", {},
    element("a", { href: "#item=" + encodeURIComponent(item.item_id) }, item.text), answers(item))));
}

// Filters over the fields of the catalogue.
async function loadFields() {
  const { fields } = await call("v1/items/fields");
  const known = new Map(fields.filter((f) => f.values.length > 1).map((f) => [f.field, f.values]));
  at("field").append(...[...known.keys()].map((name) => element("option", { value: name }, name)));
  at("field").addEventListener("change", () => {
    const values = known.get(at("field").value);
    at("value").hidden = !values;
    at("value").replaceChildren(...(values || []).map((value) => element("option", { value }, value)));
    run();
  });
  at("value").addEventListener("change", () => run());
}

function filters() {
  const field = at("field").value;
  return field ? [{ field, any_of: [at("value").value] }] : [];
}
