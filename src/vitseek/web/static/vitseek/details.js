// The details of an image in a dialog: arrows walk through the results, Enter searches, Escape closes.
import { alarm, texts } from "./page.js";

const dialog = document.getElementById("details");
let opener = null;
let wanted = null; // the image that is being shown or fetched: quick key presses count from it

export function showDetails() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-details]");
    if (!link || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    opener = link;
    open(link.dataset.details, link.href);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) dialog.close();
    if (event.target.closest("[data-previous]")) step(-1);
    if (event.target.closest("[data-next]")) step(1);
  });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(by); }
  });
  dialog.addEventListener("close", () => {
    wanted = null;
    if (opener?.isConnected) opener.focus();
    dialog.replaceChildren();
  });
}

function tiles() {
  return [...document.querySelectorAll("[data-tile]")];
}

function step(by) {
  const all = tiles();
  const at = all.findIndex((tile) => tile.dataset.tile === wanted);
  const next = at < 0 ? null : all[at + by];
  if (!next) return;
  opener = next.querySelector("a[data-details]");
  open(next.dataset.tile, opener.href);
}

async function open(id, url) {
  wanted = id;
  let details;
  try {
    const answer = await fetch(url, { headers: { "X-Vitseek-Part": "1" } });
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (wanted !== id) return; // another one was asked for meanwhile
    details = part.querySelector(".details");
    if (!details) { dialog.close(); alarm(part.querySelector("[data-alert]") ?? texts.no_answer); return; }
  } catch {
    if (wanted !== id) return;
    dialog.close();
    alarm(texts.no_answer);
    return;
  }
  placeAmongResults(details, id);
  dialog.replaceChildren(details);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  details.querySelector("[data-search]").focus({ preventScroll: true });
}

function placeAmongResults(details, id) {
  const all = tiles();
  const at = all.findIndex((tile) => tile.dataset.tile === id);
  if (at < 0) return;
  details.querySelector("[data-score]").textContent = all[at].querySelector("[data-value]").textContent;
  details.querySelector("[data-scored]").hidden = false;
  const turn = details.querySelector("[data-turn]");
  turn.hidden = false;
  turn.querySelector("[data-place]").textContent = texts.place.replace("%(number)s", at + 1).replace("%(total)s", all.length);
  turn.querySelector("[data-previous]").disabled = at === 0;
  turn.querySelector("[data-next]").disabled = at === all.length - 1;
}
