// A busy server turns a picture away for a moment: ask again, then say what is missing.
import { texts } from "./page.js";

const TRIES = 3;
const WAIT_MS = 1500;

export function watchImages() {
  document.addEventListener("error", (event) => {
    const image = event.target;
    if (!(image instanceof HTMLImageElement) || image.src.startsWith("blob:")) return;
    const tried = Number(image.dataset.tried ?? 0);
    if (tried < TRIES) {
      image.dataset.tried = tried + 1;
      setTimeout(() => { image.src = image.src; }, WAIT_MS * (tried + 1));
      return;
    }
    image.classList.add("missing");
    image.title = texts.missing;
  }, true); // errors of images do not bubble
}
