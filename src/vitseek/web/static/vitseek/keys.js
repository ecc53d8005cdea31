// Arrow keys move between pictures as they stand on the page; Tab works as everywhere.

export function moveByArrows() {
  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey || event.shiftKey) return;
    const here = event.target.closest?.("[data-tiles] .pick");
    if (!here) return;
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
