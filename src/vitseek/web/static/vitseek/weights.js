// What stands beside the sliders while they move, and the button that copies a command.
import { announce, content, texts } from "./page.js";

export function weigh() {
  content.addEventListener("input", (event) => {
    if (!event.target.matches("[data-weight]")) return;
    const weight = Number(event.target.value);
    const part = event.target.closest(".part");
    part.querySelector("output").textContent = String(weight).replace("-", "−");
    part.classList.toggle("minus", weight < 0);
    part.classList.toggle("off", weight === 0);
  });
  content.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = texts.copied;
      announce(texts.copied);
    } catch { // not over plain http from another machine: the person copies what is selected
      getSelection().selectAllChildren(button.previousElementSibling);
    }
  });
}
