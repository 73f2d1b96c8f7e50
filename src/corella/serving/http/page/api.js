"use strict";
// Calls of the API with the key, if the service asks for one.

const key = {
  get value() { return sessionStorage.getItem("corella-key") || ""; },
  set value(text) { sessionStorage.setItem("corella-key", text); },
};

async function call(path, body, method = body === undefined ? "GET" : "POST") {
  const headers = { "content-type": "application/json" };
  if (key.value) headers.authorization = "Bearer " + key.value;
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const found = await answer.json();
  if (answer.status === 401) document.getElementById("key-form").hidden = false;
  if (!answer.ok) throw new Error(found.error + (found.details?.length ? ": " + found.details.map((d) => d.where.join(".") + " " + d.what).join("; ") : ""));
  return found;
}

document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.value = document.getElementById("key").value.trim();
  location.reload();
});

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute.startsWith("on")) made.addEventListener(attribute.slice(2), value);
    else if (value === true) made.setAttribute(attribute, "");
    else if (value !== false && value !== null) made.setAttribute(attribute, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}
