// What is said to the user: in the bar at the bottom of the page, and to a screen reader.
const bar = document.getElementById("bar");
const [status, alert, close] = ["status", "alert", "close-message"].map((id) => document.getElementById(id));
const LASTS = 8000; // milliseconds
let clearing = 0;

/** Say something. What went wrong stays until the next press or Escape, all else for a few seconds. */
export function say(text, wrong = false) {
  put(wrong ? alert : status, text);
  if (!wrong) clearing = setTimeout(clear, LASTS);
}

/** Say what the page is at, until something else is said. Returns what takes it back. */
export function busy(text) {
  put(status, text);
  return () => { if (status.textContent === text) clear(); };
}

function put(place, text) {
  clear();
  place.textContent = text;
  close.hidden = place !== alert;
}

function clear() {
  clearTimeout(clearing);
  status.textContent = alert.textContent = "";
  close.hidden = true;
}

let before = null; // what had the focus before the button that closes
close.addEventListener("focus", ({ relatedTarget }) => { before = relatedTarget; });
close.addEventListener("click", () => before?.focus()); // the next line clears
document.addEventListener("click", () => { if (alert.textContent) clear(); }, true);
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !document.querySelector("dialog[open]")) clear(); });

new ResizeObserver(() => { // the page ends above the bar, and what has the focus is never behind it
  document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`);
  const focused = document.activeElement;
  if (focused?.matches("a, button, input, select, textarea, summary")) focused.scrollIntoView({ block: "nearest" });
}).observe(bar);
