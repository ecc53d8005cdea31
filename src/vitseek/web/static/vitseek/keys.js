// Arrow keys move between pictures as they stand on the page, / goes to the search box; Tab works as everywhere.

const box = () => document.querySelector("#content .q");

export function reachTheBox() {
  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.key === "/" && !event.target.closest?.("input, select, textarea, dialog") && box()) {
      event.preventDefault();
      box().focus();
      box().select();
    } else if (event.key === "Escape" && event.target === box()) {
      event.preventDefault();
      if (box().value) box().value = ""; else box().blur();
    }
  });
}

export function moveByArrows() {
  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    const here = event.target.closest?.("[data-tiles] .pick");
    if (!here) return;
    const handle = { "+": "[data-add-more]", "-": "[data-add-less]" }[event.key];
    if (handle) { here.closest("[data-tile]")?.querySelector(handle)?.click(); return; }
    if (event.shiftKey) return;
    if (event.key === "i" || event.key === " ") {
      const details = here.closest("[data-tile]")?.querySelector("[data-details]");
      if (details) { event.preventDefault(); details.click(); }
      return;
    }
    const all = [...here.closest("[data-tiles]").querySelectorAll(".pick")];
    const next = neighbour(all, all.indexOf(here), event.key);
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

function neighbour(all, at, key) {
  if (key === "ArrowRight") return all[at + 1];
  if (key === "ArrowLeft") return all[at - 1];
  if (key === "Home") return all[0];
  if (key === "End") return all[all.length - 1];
  if (key !== "ArrowDown" && key !== "ArrowUp") return null;
  const columns = getComputedStyle(all[0].closest("[data-tiles]")).gridTemplateColumns.split(" ").length;
  return all[at + (key === "ArrowDown" ? columns : -columns)];
}
