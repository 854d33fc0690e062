// Folded sections: a link opens what it leads to, and on paper all of them are open.

function reveal(id) {
  const target = id && document.getElementById(id);
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) {
    fold.open = true;
  }
  target.dispatchEvent(new Event("reveal", { bubbles: true })); // an explorer shows its window
  target.scrollIntoView({ block: target.matches(".tokens > b") ? "center" : "start" });
}

const linked = () => reveal(location.hash.slice(1));
window.addEventListener("hashchange", linked);
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) linked(); // the address stays, so nothing else tells
});
linked();

// Style does it on paper where the browser can, see print.css; else this.
const opened = [];
window.addEventListener("beforeprint", () => {
  opened.push(...document.querySelectorAll("details:not([open], .before, figcaption details)"));
  for (const fold of opened) fold.open = true;
});
window.addEventListener("afterprint", () => {
  for (const fold of opened.splice(0)) fold.open = false;
});
