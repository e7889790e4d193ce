// One switch for everything: a frame steps from control to control; space or enter presses the one it is on.
import { $, say } from "./common.js";

// Not what opens a window of the system or another tab: the frame steps in neither, so nobody would come back.
const CONTROLS = "button, nav a, a.button:not([target]), summary, select, input:not([type=file]), textarea";
const TYPED = "textarea, input:not([type=checkbox], [type=number], [type=file])";
const PRESSES = ["Space", "Enter", "NumpadEnter"];
const TWITCH = 300; // milliseconds after a press in which another one is not meant
const WRITING = 10000; // milliseconds without a letter after which the frame leaves a field
let at = -1;
let timer = 0;
let framed = null; // the control the frame is on
let wasLive = null; // the button of the recording that was just going on
let pressed = -TWITCH;
let wrote = -WRITING;

const reachable = () => {
  const dialog = document.querySelector("dialog[open]");
  return [...(dialog ?? document).querySelectorAll(CONTROLS)].filter((item) => !item.disabled && item.checkVisibility());
};
const isTyped = (item) => Boolean(item?.matches?.(TYPED));
const writes = () => isTyped(document.activeElement) && performance.now() - wrote < WRITING;

function step() {
  if (writes()) return;
  const items = reachable();
  document.querySelectorAll(".scanned").forEach((item) => item.classList.remove("scanned"));
  if (!items.length) return;
  at = following(items);
  framed = items[at];
  framed.classList.add("scanned");
  framed.focus({ preventScroll: true });
  framed.scrollIntoView({ block: "nearest" });
}

/** Where the frame goes next. */
function following(items) {
  const live = items.findIndex((item) => item.classList.contains("live"));
  const [last, focused] = [wasLive, items.indexOf(document.activeElement)];
  wasLive = items[live] ?? null;
  if (live >= 0) return live; // while recording there is only one thing to do: stop
  if (items.includes(last)) return items.indexOf(last); // and then, most likely, the next one
  if (focused >= 0 && items[focused] !== framed) return focused; // the page itself went there
  const here = items.indexOf(framed);
  return ((here < 0 ? Math.min(at, items.length - 1) : here) + 1) % items.length;
}

function press(event) {
  if (!PRESSES.includes(event.code) || (isTyped(event.target) && (!$("scan-on").checked || writes()))) return;
  if (event.repeat) return swallow(event); // a key that is held presses once
  const item = document.querySelector(".scanned");
  if (!$("scan-on").checked || !item) return;
  swallow(event);
  if (event.timeStamp - pressed < TWITCH) return;
  pressed = event.timeStamp;
  use(item);
  restart();
}

function swallow(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** What a press does: lists and numbers go on to their next value, and from the last to the first. */
function use(item) {
  if (isTyped(item)) {
    wrote = performance.now();
    return say(`Write here. The frame goes on ${WRITING / 1000} seconds after the last letter.`);
  }
  if (item.matches("select")) item.selectedIndex = (item.selectedIndex + 1) % item.length;
  else if (item.type !== "number") return item.click();
  else if (Number(item.value) < Number(item.max)) item.stepUp();
  else item.value = item.min;
  return item.dispatchEvent(new Event("change"));
}

function restart() {
  clearInterval(timer);
  if ($("scan-on").checked) timer = setInterval(step, 1000 * Math.max(0.5, Number($("scan-speed").value) || 2));
  else document.querySelectorAll(".scanned").forEach((item) => item.classList.remove("scanned"));
}

$("scan-on").addEventListener("change", restart);
$("scan-speed").addEventListener("change", restart);
document.addEventListener("keydown", press, true);
document.addEventListener("keyup", (event) => { // some browsers press a button when the key comes up
  if (event.code === "Space" && document.querySelector(".scanned") && !isTyped(event.target)) event.preventDefault();
}, true);
document.addEventListener("input", ({ target }) => { if (isTyped(target)) wrote = performance.now(); });
document.addEventListener("focusin", ({ target }) => { // by a mouse, a helper's Tab or the page: somebody will write
  if (isTyped(target) && target !== framed) wrote = performance.now();
});
