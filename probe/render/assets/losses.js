"use strict";
// What the token explorer draws: a token's losses by distance, as a table and as a chart.
// Text of a data set is only ever read from the page and put back with textContent.

const SVG = "http://www.w3.org/2000/svg";
const SHAPES = [
  "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z",
  "M-2.7 -2.7H2.7V2.7H-2.7Z",
  "M0 -3.4L3.3 2.6H-3.3Z",
  "M0 -3.7L3.7 0L0 3.7L-3.7 0Z",
  "M0 3.4L3.3 -2.6H-3.3Z",
  "M-1.2 -3.4H1.2V-1.2H3.4V1.2H1.2V3.4H-1.2V1.2H-3.4V-1.2H-1.2Z",
];

function make(name, content, parent) {
  const node = document.createElement(name);
  if (content !== undefined) node.textContent = content;
  if (parent) parent.append(node);
  return node;
}

function draw(name, attributes, parent, content) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (content !== undefined) node.textContent = content;
  parent.append(node);
  return node;
}

const nats = (thousandths) => (thousandths / 1000).toFixed(3).replace("-", "−");
const signed = (thousandths) => (thousandths > 0 ? "+" : "") + nats(thousandths);

// Losses of the token at an index of its window: by condition, [distance, loss], near to far.
function lossesAt(data, conditions, index) {
  const found = conditions.map(() => []);
  for (const [condition, far, start, values] of data.blocks) {
    const value = values[index - start];
    if (value !== undefined && value !== null) found[condition].push([index - far, value]);
  }
  for (const points of found) points.sort((one, other) => one[0] - other[0]);
  return found;
}

// What the distances of an explorer are counted in.
const unit = (part) => part.closest(".explorer")?.dataset.unit ?? "tokens";

// A condition's name, with places to break it that lie in no word.
function breakable(name, parent) {
  name.split(/(?<=[(,=])/).forEach((part, number) => {
    if (number) make("wbr", undefined, parent);
    parent.append(part);
  });
}

function table(conditions, found, intact, parent) {
  const distances = [...new Set(found.flat().map((point) => point[0]))].sort((a, b) => a - b);
  const frame = make("div", undefined, parent);
  frame.className = "scroll";
  const node = make("table", undefined, frame);
  make("caption", `Loss in nats (delta) by distance in ${unit(parent)}`, node);
  const head = make("tr", undefined, make("thead", undefined, node));
  for (const name of ["distance", ...conditions]) {
    const cell = make("th", undefined, head);
    cell.scope = "col";
    breakable(name, cell);
  }
  const body = make("tbody", undefined, node);
  for (const distance of distances) {
    const row = make("tr", undefined, body);
    make("th", distance.toLocaleString("en"), row).scope = "row";
    for (const points of found) {
      const point = points.find((one) => one[0] === distance);
      make("td", point ? `${nats(point[1])} (${signed(point[1] - intact)})` : "–", row);
    }
  }
}

// A token with one distance has no lines: a bar for each condition, with a stroke at the intact loss.
function bars(conditions, found, intact, parent) {
  const [width, row, left, right] = [330, 30, 2, 96];
  const known = conditions.map((name, number) => [name, number]).filter(([, number]) => found[number].length);
  const rows = [["intact", null, intact], ...known.map(([name, number]) => [name, number, found[number][0][1]])];
  const high = Math.max(100, ...rows.map((one) => one[2]));
  const x = (loss) => left + (Math.max(0, loss) / high) * (width - left - right);
  const height = rows.length * row + 4;
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", "aria-hidden": "true" }, parent);
  rows.forEach(([name, number, loss], place) => {
    const top = place * row;
    const look = number === null ? "whole" : `s${number % SHAPES.length}`;
    draw("text", { x: left, y: top + 11, class: "label" }, svg, name);
    draw("rect", { x: left, y: top + 15, width: x(loss) - left, height: 8, class: `loss ${look}` }, svg);
    draw("line", { x1: x(intact), x2: x(intact), y1: top + 13, y2: top + 25, class: "intact" }, svg);
    const said = number === null ? nats(loss) : `${nats(loss)} (${signed(loss - intact)})`;
    draw("text", { x: x(Math.max(loss, intact)) + 4, y: top + 22.5 }, svg, said);
  });
}

function chart(conditions, found, intact, parent) {
  if (new Set(found.flat().map((point) => point[0])).size === 1) {
    bars(conditions, found, intact, parent);
    return;
  }
  const [width, height, left, right, top, bottom] = [330, 200, 38, 10, 8, 34];
  const bent = (distance) => (distance < 1 ? distance : 1 + Math.log2(distance));
  const far = Math.max(2, ...found.flat().map((point) => point[0]));
  const losses = [intact, ...found.flat().map((point) => point[1])];
  const high = Math.max(100, ...losses) * 1.08;
  const x = (distance) => left + (bent(distance) / bent(far)) * (width - left - right);
  const y = (loss) => height - bottom - (loss / high) * (height - top - bottom);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", "aria-hidden": "true" }, parent);
  const rough = high / 4000;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  for (let tick = 0; tick * 1000 <= high; tick += step) {
    const place = y(tick * 1000);
    draw("line", { x1: left, x2: width - right, y1: place, y2: place, class: "grid" }, svg);
    draw("text", { x: left - 5, y: place + 3.5, "text-anchor": "end" }, svg, String(+tick.toFixed(4)));
  }
  const powers = [0];
  for (let tick = 1; tick <= far; tick *= far > 64 ? 4 : 2) powers.push(tick);
  for (const tick of powers) {
    draw("text", { x: x(tick), y: height - bottom + 14, "text-anchor": "middle" }, svg, String(tick));
  }
  const middle = (left + width - right) / 2;
  draw("text", { x: middle, y: height - 5, "text-anchor": "middle", class: "label" }, svg, `distance (${unit(parent)})`);
  draw("line", { x1: left, x2: width - right, y1: y(intact), y2: y(intact), class: "intact" }, svg);
  found.forEach((points, number) => {
    const look = `s${number % SHAPES.length}`;
    const places = points.map(([distance, loss]) => [x(distance), y(loss)]);
    draw("polyline", { points: places.map((place) => place.join(",")).join(" "), class: `line ${look}` }, svg);
    for (const place of places) {
      const shape = { d: SHAPES[number % SHAPES.length], class: `point ${look}` };
      draw("path", { ...shape, transform: `translate(${place[0]} ${place[1]})` }, svg);
    }
  });
  legend(conditions, parent);
}

function legend(conditions, parent) {
  const list = make("ul", undefined, parent);
  list.className = "legend";
  const sample = (name, look, shape) => {
    const item = make("li", undefined, list);
    const svg = draw("svg", { viewBox: "0 0 28 12", class: "sample", "aria-hidden": "true" }, item);
    draw("line", { x1: 1, x2: 27, y1: 6, y2: 6, class: look }, svg);
    if (shape) draw("path", { d: shape, class: look.replace("line", "point"), transform: "translate(14 6)" }, svg);
    make("bdi", name, item);
  };
  sample("intact", "intact");
  conditions.forEach((name, number) => {
    sample(name, `line s${number % SHAPES.length}`, SHAPES[number % SHAPES.length]);
  });
}
