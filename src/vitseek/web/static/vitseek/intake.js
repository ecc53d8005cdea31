// Pictures come by button, by drag and drop anywhere on the page, and by paste.
import { alarm, announce, content, texts } from "./page.js";
import { send } from "./search.js";

export function takePictures() {
  content.addEventListener("change", (event) => {
    if (!event.target.matches("[data-intake] input[type=file]")) return;
    take(event.target.files, event.target.form);
    event.target.value = ""; // the same file may be chosen again
  });
  addEventListener("paste", (event) => {
    const typing = event.target.closest?.("input:not([type=file]), textarea");
    if (event.clipboardData?.files.length) { event.preventDefault(); take(event.clipboardData.files); }
    else if (typing) return;
    else if (event.clipboardData) alarm(texts.no_picture);
  });
  takeDrops(document.getElementById("dropping"));
}

function takeDrops(veil) {
  let depth = 0; // dragenter and dragleave come for every element under the pointer
  const carriesFiles = (event) => [...event.dataTransfer?.types ?? []].includes("Files");
  const lift = () => { depth = 0; veil.classList.remove("on"); };
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth += 1;
    veil.classList.add("on");
  });
  addEventListener("dragleave", (event) => {
    if (carriesFiles(event) && (depth -= 1) <= 0) lift();
  });
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    lift();
    take(event.dataTransfer.files);
  });
}

function take(files, form = content.querySelector("[data-intake]")) {
  const pictures = [...files].filter((file) => file.type === "" || file.type.startsWith("image/"));
  const picture = pictures[0] ?? files[0]; // the server says best why something is no picture
  if (!picture || !form) { if (files.length === 0) alarm(texts.no_picture); return; }
  if (picture.size > texts.limit_bytes) { alarm(texts.too_large); return; }
  document.getElementById("details").close();
  send(form, picture).then(() => { if (pictures.length > 1) announce(texts.first_only); });
}
