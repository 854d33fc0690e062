"use strict";
// The token explorer: point at a token or focus it, and its losses are told by distance.
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

function table(conditions, found, intact, parent) {
  const distances = [...new Set(found.flat().map((point) => point[0]))].sort((a, b) => a - b);
  const frame = make("div", undefined, parent);
  frame.className = "scroll";
  const node = make("table", undefined, frame);
  node.style.minWidth = `${(conditions.length + 1) * 5}rem`;
  make("caption", "Loss in nats (delta) by distance in tokens", node);
  const head = make("tr", undefined, make("thead", undefined, node));
  for (const name of ["distance", ...conditions]) make("th", name, head).scope = "col";
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

function chart(conditions, found, intact, parent) {
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
  draw("text", { x: middle, y: height - 5, "text-anchor": "middle", class: "label" }, svg, "distance (tokens)");
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

// One explorer of the page; all that it holds hangs on its section.
function wake(section) {
  const { conditions, windows } = JSON.parse(section.querySelector(".losses").textContent);
  const explore = section.querySelector(".explore");
  const details = section.querySelector(".details");
  const said = section.querySelector(".said");
  const drawn = section.querySelector(".drawn");
  const views = [...section.querySelectorAll(".window")];
  const tokens = views.map((view) => [...view.querySelectorAll(".tokens > b")]);
  let shown = 0; // the window that is seen
  let current = null; // the token that is told
  let pinned = false;

  function tell(token) {
    if (token === current) return;
    if (current) current.classList.remove("on");
    current = token;
    token.classList.add("on");
    const data = windows[shown];
    const place = tokens[shown].indexOf(token);
    const intact = data.intact[place];
    const sentence = make("p");
    make("bdi", token.textContent, sentence).className = "token";
    said.replaceChildren(sentence);
    drawn.replaceChildren();
    details.classList.remove("empty");
    if (intact === null || intact === undefined) {
      sentence.append(` token ${data.first + place}: no target`);
      return;
    }
    const found = lossesAt(data, conditions, data.first + place);
    sentence.append(` token ${data.first + place}: intact loss ${nats(intact)} nats`);
    if (token.title) make("p", token.title, said); // a key token tells its LSD and LCL
    table(conditions, found, intact, said);
    chart(conditions, found, intact, drawn);
  }

  function letGo() {
    pinned = false;
    if (current) {
      current.classList.remove("on");
      current.setAttribute("aria-selected", "false");
    }
    current = null;
    said.replaceChildren(make("p", "No token is chosen."));
    drawn.replaceChildren();
    details.classList.add("empty");
  }

  function pin(token) {
    if (current) current.setAttribute("aria-selected", "false");
    pinned = !(pinned && token === current);
    tell(token);
    token.setAttribute("aria-selected", String(pinned));
  }

  function rove(token) {
    for (const other of tokens[shown]) if (other.tabIndex === 0) other.tabIndex = -1;
    token.tabIndex = 0;
    token.focus();
  }

  // The token nearest to this one in the line above or below.
  function inLine(place, direction) {
    const list = tokens[shown];
    const from = list[place].getBoundingClientRect();
    let best = null;
    let line = null;
    for (let at = place + direction; at >= 0 && at < list.length; at += direction) {
      const box = list[at].getClientRects()[0];
      if (!box || Math.abs(box.top - from.top) < from.height / 2) continue;
      if (line !== null && Math.abs(box.top - line) > box.height / 2) break;
      line = box.top;
      const away = Math.abs(box.left - from.left);
      if (best === null || away < best.away) best = { away, at };
    }
    return best ? best.at : place;
  }

  const moves = {
    ArrowRight: (place) => place + 1,
    ArrowLeft: (place) => place - 1,
    ArrowDown: (place) => inLine(place, 1),
    ArrowUp: (place) => inLine(place, -1),
    Home: () => 0,
    End: () => tokens[shown].length - 1,
  };

  function choose(number) {
    letGo();
    shown = number;
    views.forEach((view, index) => (view.hidden = index !== number));
  }

  views.forEach((view, number) => {
    const text = view.querySelector(".tokens");
    text.setAttribute("role", "listbox");
    text.setAttribute("aria-label", "Tokens of the window");
    for (const token of tokens[number]) {
      token.setAttribute("role", "option");
      token.setAttribute("aria-selected", "false");
      token.tabIndex = -1;
    }
    tokens[number][0].tabIndex = 0;
    const under = (event) => event.target.closest(".tokens > b");
    text.addEventListener("pointerover", (event) => {
      const token = under(event);
      if (token && !pinned && event.pointerType !== "touch") tell(token);
    });
    text.addEventListener("focusin", (event) => {
      const token = under(event);
      if (token && !pinned) tell(token);
    });
    text.addEventListener("click", (event) => {
      const token = under(event);
      if (!token) return;
      rove(token);
      pin(token);
    });
    text.addEventListener("keydown", (event) => {
      const token = under(event);
      if (!token) return;
      const place = tokens[shown].indexOf(token);
      if (event.key === "Enter" || event.key === " ") {
        pin(token);
      } else if (moves[event.key]) {
        const next = tokens[shown][moves[event.key](place)];
        if (next) rove(next);
      } else {
        return;
      }
      event.preventDefault();
    });
  });
  section.addEventListener("keydown", (event) => {
    if (event.key === "Escape") letGo();
  });
  section.querySelector(".close").addEventListener("click", letGo);
  const select = section.querySelector("select");
  select.addEventListener("change", () => choose(Number(select.value)));
  section.querySelector(".choose").hidden = views.length < 2;
  explore.classList.add("awake");
  details.hidden = false;
  select.selectedIndex = 0; // a browser may remember another choice than what is shown
  choose(0);
}

document.querySelectorAll("section.explorer").forEach(wake);
