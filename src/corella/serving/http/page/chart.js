"use strict";
// Two small charts in SVG.

function draw(svg, shapes) {
  svg.replaceChildren(...shapes.map(([name, attributes, text]) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }));
}

// Quality by share, its interval, and a dot at `share`. Returns what is known there and at none. The axis spans all
// intervals, and .02 at least: what is small looks small.
function drawCurve(svg, points, share) {
  const [left, right, top, bottom] = [42, 312, 10, 106];
  const ends = points.flatMap((p) => [p.low, p.high]);
  const middle = (Math.min(...ends) + Math.max(...ends)) / 2, half = Math.max(Math.max(...ends) - middle, 0.01);
  const low = middle - half, high = middle + half;
  const x = (s) => left + s * (right - left), y = (a) => bottom - ((a - low) / (high - low)) * (bottom - top);
  const after = points.findIndex((p) => p.share >= share - 1e-9);
  const b = points[after < 0 ? points.length - 1 : after], a = points[Math.max(after - 1, 0)];
  const t = b.share === a.share ? 1 : Math.min(1, (share - a.share) / (b.share - a.share));
  const here = Object.fromEntries(["auc", "low", "high"].map((name) => [name, a[name] + t * (b[name] - a[name])]));
  const band = [...points.map((p) => x(p.share) + "," + y(p.high)), ...points.slice().reverse().map((p) => x(p.share) + "," + y(p.low))];
  draw(svg, [
    ["polygon", { class: "band", points: band.join(" ") }],
    ["line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }],
    ["line", { class: "axis", x1: left, x2: left, y1: top, y2: bottom }],
    ["text", { x: 2, y: top + 8 }, high.toFixed(3)], ["text", { x: 2, y: bottom }, low.toFixed(3)],
    ["text", { x: left, y: 122 }, "0 %"], ["text", { x: right - 32, y: 122 }, "100 %"],
    ["polyline", { class: "line", points: points.map((p) => x(p.share) + "," + y(p.auc)).join(" ") }],
    ["circle", { class: "dot", cx: x(share), cy: y(here.auc), r: 5 }],
  ]);
  return { here, none: points[0] };
}

// Requests in slots of time, one colour a path.
function drawTraffic(svg, slots) {
  const most = Math.max(1, ...slots.crm.map((n, i) => n + slots.llm[i]));
  const width = 680 / slots.crm.length, shapes = [["line", { class: "axis", x1: 36, x2: 716, y1: 136, y2: 136 }], ["text", { x: 2, y: 18 }, most], ["text", { x: 36, y: 153 }, "10 minutes ago"], ["text", { x: 690, y: 153 }, "now"]];
  slots.crm.forEach((n, i) => {
    const crm = (n / most) * 124, llm = (slots.llm[i] / most) * 124, x = 36 + i * width;
    shapes.push(["rect", { class: "bar-crm", x, y: 136 - crm, width: width - 1.5, height: crm }]);
    shapes.push(["rect", { class: "bar-llm", x, y: 136 - crm - llm, width: width - 1.5, height: llm }]);
  });
  draw(svg, shapes);
}
