"use strict";
// Who is asked for, what they said, and how it is taken back.

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
    element("span", {}, a.text), element("span", { class: a.liked ? "liked" : "disliked" }, a.liked ? "liked" : "disliked"),
    state.described || a.event_id ? element("button", { type: "button", "aria-label": "take back " + a.text, onclick: () => takeBack(a) }, "undo") : null)));
}

// Before a real user's history is written to, once for each user.
function mayWrite(user) {
  if (state.writes.has(user)) return Promise.resolve("write");
  at("warn-says").textContent = `Liking an item here writes to the history of ${user}, and their recommendations change. It can be undone. You may also try it on a copy that nobody keeps.`;
  at("warn").showModal();
  return new Promise((resolve) => {
    const end = (said) => () => { at("warn").close(); resolve(said); };
    at("warn-write").onclick = end("write");
    at("warn-try").onclick = end("try");
    at("warn-cancel").onclick = at("warn").oncancel = end("cancel");
  });
}

async function answer(item, liked) {
  const user = at("user").value.trim();
  if (!state.described) {
    if (!user) return say("Choose a user first.");
    const said = await mayWrite(user);
    if (said === "cancel") return;
    if (said === "try") {
      describe(true, state.answers);
      at("profile").value = at("user-text").textContent.slice(0, 300);
    } else state.writes.add(user);
  }
  try {
    if (state.described) {
      state.answers = [{ ...item, liked }, ...state.answers.filter((a) => a.item_id !== item.item_id)];
      showHistory();
      confirmed(item, liked, { ...item, liked });
    } else {
      const told = await call("v1/events", { user_id: user, item_id: item.item_id, liked });
      await loadUser();
      confirmed(item, liked, { ...item, event_id: told.event_id });
    }
  } catch (error) { return say(String(error.message || error), true); }
  await run({ keepFocus: true });
}

function confirmed(item, liked, undo) {
  at("toast").firstElementChild.textContent = `${liked ? "Liked" : "Disliked"}: ${item.text}.`;
  at("toast").hidden = at("undo").hidden = false;
  at("undo").onclick = () => takeBack(undo);
}

async function takeBack(a) {
  try {
    if (state.described) {
      state.answers = state.answers.filter((other) => other.item_id !== a.item_id);
      showHistory();
    } else {
      await call("v1/events/" + encodeURIComponent(a.event_id), undefined, "DELETE");
      await loadUser();
    }
  } catch (error) { return say(String(error.message || error), true); }
  at("toast").firstElementChild.textContent = `Taken back: ${a.text}.`;
  at("toast").hidden = false;
  if (document.activeElement === at("undo")) at("dismiss").focus();
  at("undo").hidden = true;
  await run({ keepFocus: true });
}

function describe(described, answersKept = []) {
  state.described = described;
  for (const [tab, panel, on] of [["tab-known", "known", !described], ["tab-described", "described", described]]) {
    at(tab).setAttribute("aria-selected", String(on));
    at(tab).tabIndex = on ? 0 : -1;
    at(panel).hidden = !on;
  }
  state.answers = answersKept;
  state.places = new Map();
  described ? showHistory() : loadUser();
}

// Arrow keys move between tabs, as everywhere.
function tabs() {
  const both = [["tab-known", false], ["tab-described", true]];
  for (const [id, described] of both) {
    at(id).addEventListener("click", () => { describe(described); run(); });
    at(id).addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      const other = both.find(([name]) => name !== id);
      at(other[0]).focus();
      describe(other[1]);
      run();
    });
  }
  at("tab-described").tabIndex = -1;
}
