// Searches without a reload: the server renders, this swaps the content and keeps the address bar and history true.
import { alarm, announce, clearAlarm, content, texts } from "./page.js";

const PART = { "X-Vitseek-Part": "1" };
const SKELETON_AFTER_MS = 120; // a quick answer needs no placeholder, which would only flicker

let running = null;
let shown = location.pathname + location.search;
let covered = null; // the content below the placeholder, to come back if the search fails

export function followAddresses() {
  history.scrollRestoration = "manual";
  history.replaceState({ y: scrollY }, "");
  addEventListener("popstate", (event) => {
    if (location.pathname + location.search === shown) return; // only the #part changed: the link to the content
    load(location.href, { push: false, y: event.state?.y ?? 0 });
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-nav]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    document.getElementById("details").close();
    const keep = "keepScroll" in link.dataset;
    load(link.href, { y: keep ? scrollY : 0, preview: previewOf(link), steady: keep || "steady" in link.dataset });
  });
  content.addEventListener("submit", (event) => {
    if (event.target.matches("[data-controls]")) {
      event.preventDefault();
      submitControls(event.target, event.submitter);
    } else if (event.target.matches("[data-intake]:not([data-more])") && !event.target.elements.image.files.length) {
      event.preventDefault();
      submitWords(event.target);
    }
  });
  content.addEventListener("change", (event) => {
    if (event.target.matches("[data-controls] select, [data-controls] input[type=range]")) submitControls(event.target.form);
  });
}

function submitControls(form, button = null) {
  load(addressOf(form, new FormData(form, button)), { steady: true, keepOnError: "add" in form.dataset });
}

function submitWords(form) {
  if (!form.elements.q.value.trim()) { form.elements.q.focus(); return; }
  const data = new FormData(form);
  for (const name of ["image", "shown", "csrfmiddlewaretoken"]) data.delete(name);
  load(addressOf({ action: new URL(form.dataset.home, location.href).href }, data), { keepOnError: true });
}

/** What a form asks for; empty fields and the usual number of results are left out. */
function addressOf(form, data) {
  const asked = new URLSearchParams();
  for (const [name, value] of data) if (value !== "" && !(name === "k" && value === "10")) asked.append(name, value);
  return `${form.action}?${asked}`;
}

function previewOf(link) {
  const image = link.querySelector("img") ?? document.querySelector(`[data-tile="${link.closest("[data-image]")?.dataset.image}"] img`);
  return image ? { src: image.currentSrc || image.src, name: image.alt } : null;
}

/** Fetch an address of the page and show it. */
export function load(url, { push = true, y = 0, preview = null, steady = false, keepOnError = false } = {}) {
  const typed = new URL(url, location.href).searchParams.get("q") ?? "";
  const pending = /[?&](image|query|q)=/.test(url) && !steady ? { ...preview, typed } : null;
  return show((signal) => fetch(url, { headers: PART, signal }), { push, y, pending, steady, keepOnError });
}

/** Send a picture and show what it finds; what was there stays if the picture cannot be used. */
export function send(form, file) {
  const data = new FormData(form);
  data.set("image", file, file.name || "picture.png");
  const pending = { src: URL.createObjectURL(file), name: file.name, held: true };
  return show((signal) => fetch(form.action, { method: "POST", body: data, headers: PART, signal }), {
    push: true, y: 0, pending, keepOnError: true,
  });
}

async function show(request, { push, y, pending, steady = false, keepOnError = false }) {
  running?.abort();
  const run = running = new AbortController();
  clearAlarm();
  const scrolled = scrollY;
  const timer = pending && setTimeout(() => cover(pending), SKELETON_AFTER_MS);
  content.setAttribute("aria-busy", "true");
  announce(texts.searching);
  try {
    const answer = await request(run.signal);
    const part = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-title]");
    clearTimeout(timer);
    const alert = part?.querySelector("[data-alert]");
    if (!part || (keepOnError && !answer.ok)) {
      uncover();
      alarm(alert ?? texts.no_answer);
      announce("");
      return;
    }
    if (push) {
      history.replaceState({ y: scrolled }, "");
      history.pushState({ y }, "", answer.url);
    }
    shown = location.pathname + location.search;
    document.title = part.dataset.title;
    for (const next of document.querySelectorAll(".language [name=next]")) next.value = location.pathname + location.search;
    swap(part, y, steady);
  } catch (error) {
    clearTimeout(timer);
    if (error.name === "AbortError") return; // a newer search has taken over
    uncover();
    announce("");
    alarm(texts.no_answer);
  } finally {
    if (pending?.held) URL.revokeObjectURL(pending.src);
    if (running === run) { running = null; content.removeAttribute("aria-busy"); }
  }
}

function swap(part, y, steady) {
  const active = steady ? document.activeElement : null;
  const focused = active?.getAttribute("name");
  const place = focused ? [...content.querySelectorAll(`[data-controls] [name="${focused}"]`)].indexOf(active) : -1;
  content.replaceChildren(...part.childNodes);
  covered = null;
  scrollTo(0, y);
  const heading = content.querySelector("[data-focus]");
  const target = place >= 0 ? content.querySelectorAll(`[data-controls] [name="${focused}"]`)[place] : heading;
  (target ?? content).focus({ preventScroll: true });
  announce(content.querySelector("[data-alert], [data-focus]")?.textContent.trim() ?? "");
}

function uncover() {
  if (!covered) return;
  content.replaceChildren(...covered.nodes);
  scrollTo(0, covered.y);
  covered = null;
}

function cover({ src, name, typed }) {
  covered ??= { nodes: [...content.childNodes], y: scrollY };
  const pending = document.getElementById("pending").content.cloneNode(true);
  const image = pending.querySelector("img");
  if (src) image.src = src; else image.remove();
  pending.querySelector(".name").textContent = name ?? "";
  pending.querySelector("[name=q]").value = typed ?? "";
  const address = new URLSearchParams(location.search);
  for (const name of ["k", "where"]) pending.querySelector(`[data-intake] [name=${name}]`).value = address.get(name) ?? "";
  const count = Number(address.get("k") ?? 10);
  for (let number = 0; number < Math.min(count, 20); number += 1) {
    const tile = document.createElement("li");
    tile.className = "tile";
    const [box, bar] = [document.createElement("div"), document.createElement("div")];
    box.className = "skeleton";
    bar.className = "bar";
    tile.append(box, bar);
    pending.querySelector(".tiles").append(tile);
  }
  content.replaceChildren(pending);
  scrollTo(0, 0);
}
