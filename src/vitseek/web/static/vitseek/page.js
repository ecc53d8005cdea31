// The parts of the page that several modules touch.

export const texts = JSON.parse(document.getElementById("texts").textContent);
export const content = document.getElementById("content");

const announcer = document.getElementById("announce");

/** Say something to people who listen instead of look. */
export function announce(text) {
  announcer.textContent = "";
  requestAnimationFrame(() => { announcer.textContent = text; });
}

/** Show what went wrong above what is there; the next search takes it away. */
export function alarm(message) {
  clearAlarm();
  const box = message instanceof Element ? message : written(message);
  (content.querySelector("[data-alerts]") ?? content).prepend(box);
  box.scrollIntoView({ block: "nearest" });
}

export function clearAlarm() {
  for (const old of content.querySelectorAll("[data-alert]")) old.remove();
}

function written(text) {
  const box = document.createElement("div");
  box.className = "alert";
  box.setAttribute("role", "alert");
  box.dataset.alert = "";
  box.append(document.createElement("p"));
  box.firstChild.textContent = text;
  return box;
}
