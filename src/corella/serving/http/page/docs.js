"use strict";
// The API's own description, drawn without anybody else's scripts.

function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) { const name = schema.$ref.split("/").pop(); return element("a", { href: "#" + name }, name); }
  const options = schema.anyOf || schema.oneOf;
  if (options) return element("span", {}, ...options.flatMap((o, i) => (i ? [" or ", kind(o)] : [kind(o)])));
  if (schema.type === "array") return element("span", {}, "list of ", kind(schema.items));
  if (schema.enum) return schema.enum.map((v) => JSON.stringify(v)).join(" or ");
  const limits = [["minimum", "at least "], ["maximum", "at most "], ["maxLength", "length at most "], ["exclusiveMinimum", "above "]];
  const said = limits.filter(([name]) => schema[name] !== undefined).map(([name, word]) => word + schema[name]);
  return (schema.type || "any") + (said.length ? ", " + said.join(", ") : "");
}

function fields(list) {
  if (!list.length) return null;
  const row = (f) => element("tr", {}, element("td", {}, element("code", {}, f.name), f.required ? "" : " (optional)"),
    element("td", {}, kind(f.schema)), element("td", { class: "quiet" }, f.text || ""));
  return element("div", { class: "scroll" }, element("table", {}, element("tbody", {}, ...list.map(row))));
}

function operation(path, method, about) {
  const content = about.requestBody?.content || {};
  const body = content["application/json"]?.schema;
  const lines = content["application/x-ndjson"] ? element("p", {}, "Body: NDJSON, an object a line") : null;
  const answers = Object.entries(about.responses).map(([code, r]) => {
    const shape = r.content?.["application/json"]?.schema;
    return element("li", {}, element("b", {}, code), " " + r.description + " ", shape ? kind(shape) : "");
  });
  const given = (about.parameters || []).map((p) => ({ name: p.name, required: p.required, schema: p.schema, text: p.in }));
  return element("section", { class: "panel" }, element("h2", {}, `${method.toUpperCase()} ${path}`), element("p", {}, about.summary || ""),
    element("p", { class: "quiet" }, about.description || ""), fields(given), body ? element("p", {}, "Body: ", kind(body)) : lines, element("ul", { class: "quiet" }, ...answers));
}

async function start() {
  const found = await call("openapi.json");
  for (const [path, methods] of Object.entries(found.paths))
    for (const [method, about] of Object.entries(methods)) document.getElementById("paths").append(operation(path, method, about));
  for (const [name, schema] of Object.entries(found.components.schemas).sort()) {
    const list = Object.entries(schema.properties || {}).map(([field, s]) => ({ name: field, schema: s, text: s.description, required: (schema.required || []).includes(field) }));
    document.getElementById("shapes").append(...[element("h3", { id: name }, name), element("p", { class: "quiet" }, schema.description || ""), fields(list)].filter(Boolean));
  }
}

start().catch((error) => document.getElementById("paths").append(String(error.message || error)));
