// The token explorer: point at a token or focus it, and its losses are told by distance.

const small = window.matchMedia("(max-width: 63.99rem)");

// One explorer of the page; all that it holds hangs on its section.
function wake(section) {
  const { conditions, windows, steps } = JSON.parse(section.querySelector(".losses").textContent);
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
    const inWindow = data.first + place;
    const inDocument = Number(views[shown].dataset.start) + inWindow;
    const named = ` token ${inWindow} of the window, ${inDocument} of the document: `;
    const intact = data.intact[place];
    const weighs = data.weights ? `, weight ${nats(data.weights[place])}` : "";
    const sentence = make("p");
    make("bdi", token.textContent, sentence).className = "token";
    said.replaceChildren(sentence);
    drawn.replaceChildren();
    details.classList.remove("empty");
    if (intact === null || intact === undefined) {
      sentence.append(`${named}no target${weighs}`);
      return;
    }
    const found = lossesAt(data, conditions, inWindow);
    sentence.append(`${named}intact loss ${nats(intact)} nats${weighs}`);
    if (token.title) make("p", token.title, said); // a key token tells its LSD and LCL
    table(conditions, found, intact, drawn); // not read aloud: it is long
    chart(conditions, found, intact, drawn);
  }

  // On a small screen the panel lies over the text: the token is brought above it.
  function uncover(token) {
    if (!small.matches) return;
    const box = token.getBoundingClientRect();
    const frame = token.parentElement;
    const room = window.innerHeight - details.offsetHeight - 8;
    if (box.bottom <= room && box.top >= 0) return;
    const middle = room / 2;
    const within = frame.scrollTop;
    frame.scrollTop += box.top - frame.getBoundingClientRect().top - frame.clientHeight / 3;
    window.scrollBy(0, box.top - (frame.scrollTop - within) - middle);
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
    if (pinned) uncover(token);
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

  // By delta as the page is written; by weight, of which 0 has a look of its own.
  const byDelta = tokens.map((list) => list.map((token) => /c\d/.exec(token.className)?.[0]));
  function byWeight(weight) {
    return weight ? `c${steps.filter((step) => weight >= step).length}` : "none";
  }

  function colour(by) {
    for (const part of section.querySelectorAll("[data-by]")) part.hidden = part.dataset.by !== by;
    tokens.forEach((list, number) => {
      list.forEach((token, place) => {
        token.classList.remove(...[...token.classList].filter((name) => /^(c\d|none)$/.test(name)));
        const look = by === "delta" ? byDelta[number][place] : byWeight(windows[number].weights[place]);
        if (look) token.classList.add(look);
      });
    });
  }

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
  section.addEventListener("reveal", (event) => {
    const number = views.findIndex((view) => view.contains(event.target));
    if (number < 0 || !event.target.matches(".tokens > b")) return;
    select.selectedIndex = number;
    choose(number);
    rove(event.target);
    pin(event.target);
  });
  section.querySelector(".close").addEventListener("click", letGo);
  const select = section.querySelector(".which select");
  select.addEventListener("change", () => choose(Number(select.value)));
  section.querySelector(".which").hidden = views.length < 2;
  const colours = section.querySelector(".colour select");
  if (colours) {
    colours.addEventListener("change", () => colour(colours.value));
    colours.selectedIndex = 0;
    colours.parentElement.hidden = false;
  }
  explore.classList.add("awake");
  details.hidden = false;
  select.selectedIndex = 0; // a browser may remember another choice than what is shown
  choose(0);
}

document.querySelectorAll("section.explorer").forEach(wake);
