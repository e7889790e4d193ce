// One switch for everything: a frame steps from control to control; space or enter presses the one it is on.
import { $, confirmed } from "./common.js";
import { say } from "./messages.js";

// Not what opens a window of the system or another tab: the frame steps in neither, so nobody would come back.
const CONTROLS = "button, nav a, a.button:not([target]), summary, select, input:not([type=file]), textarea";
const TYPED = "textarea, input:not([type=checkbox], [type=number], [type=file])";
const PRESSES = ["Space", "Enter", "NumpadEnter"];
const TWITCH = 300; // milliseconds after a press in which another one is not meant
const ASTRAY = 5000; // milliseconds after a letter outside all fields in which space and enter are taken for writing
let at = -1;
let timer = 0;
let framed = null; // the control the frame is on
let wasLive = null; // the button of the recording that was just going on
let pressed = -Infinity;
let strayed = -Infinity; // when a letter was typed outside all fields
let entered = null; // the field that the switch went into
let began = -Infinity; // when a field was entered, or written in, last
let holds = null; // the field that has something written in it: only who writes leaves it

const isOn = () => $("scan-on").checked;
const isTyped = (item) => Boolean(item?.matches?.(TYPED));
const patience = () => 1000 * Number($("scan-wait").value) || Infinity;
const reachable = () => {
  const dialog = document.querySelector("dialog[open]");
  return [...(dialog ?? document).querySelectorAll(CONTROLS)].filter((item) => !item.disabled && item.checkVisibility());
};

/** Whether somebody writes: the frame stays. */
function writes() {
  const field = document.activeElement;
  return isTyped(field) && (field === holds || performance.now() - began < patience());
}

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
  const [presses, typed] = [PRESSES.includes(event.code), isTyped(event.target)];
  if (presses && event.repeat && !(typed && event.target !== entered)) return swallow(event); // a key that is held presses once
  if (!isOn()) return undefined;
  if (typed && writes()) return leaves(event) ? leave(event) : undefined;
  if (!presses) {
    if (event.key.length === 1 && !typed && !event.ctrlKey && !event.metaKey) strayed = event.timeStamp;
    return undefined;
  }
  const item = document.querySelector(".scanned");
  if (!item) return undefined;
  swallow(event);
  if (event.timeStamp - pressed < TWITCH) return undefined;
  pressed = event.timeStamp;
  if (pressed - strayed < ASTRAY) return say("Nothing is pressed so soon after letters. To write, press a text field first.");
  use(item);
  return restart();
}

function swallow(event) {
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** Whether a key ends the writing: Enter, on an empty line where there are several; and any press before a letter. */
function leaves({ code, target, timeStamp }) {
  if (code === "Escape") return true;
  if (!PRESSES.includes(code) || timeStamp - pressed < TWITCH) return false;
  if (target !== holds) return target === entered;
  const line = target.value.slice(0, target.selectionStart).split("\n").at(-1);
  return code !== "Space" && (target.tagName !== "TEXTAREA" || !line);
}

function leave(event) {
  swallow(event);
  pressed = event.timeStamp;
  framed = event.target;
  holds = entered = null;
  began = -Infinity;
  step();
  restart();
}

/** What a press does: lists and numbers go on to their next value, and from the last to the first. */
async function use(item) {
  if (isTyped(item)) return enter(item);
  if (item.dataset.ask && !item.checked && !(await confirmed(item.dataset.ask, "Yes", "No"))) return undefined;
  if (item.matches("select")) item.selectedIndex = (item.selectedIndex + 1) % item.length;
  else if (item.type !== "number") return item.click();
  else if (Number(item.value) < Number(item.max)) item.stepUp();
  else item.value = item.min;
  return item.dispatchEvent(new Event("change"));
}

function enter(field) {
  entered = field;
  began = performance.now();
  const end = field.tagName === "TEXTAREA" ? "Enter on an empty line" : "Enter";
  const wait = Number($("scan-wait").value);
  say(`Write here. ${end} ends it.${wait ? ` Where nothing is written, the frame goes on after ${wait} seconds.` : ""}`);
}

function restart() {
  clearInterval(timer);
  if (isOn()) timer = setInterval(step, 1000 * Math.max(0.5, Number($("scan-speed").value) || 2));
  else document.querySelectorAll(".scanned").forEach((item) => item.classList.remove("scanned"));
}

$("scan-on").addEventListener("change", restart);
$("scan-speed").addEventListener("change", restart);
document.addEventListener("keydown", press, true);
document.addEventListener("keyup", (event) => { // some browsers press a button when the key comes up
  if (event.code === "Space" && document.querySelector(".scanned") && !isTyped(event.target)) event.preventDefault();
}, true);
document.addEventListener("input", ({ target, data }) => {
  if (!isTyped(target)) return;
  began = performance.now();
  if (data?.trim() !== "") holds = target; // a space may be the switch; what is pasted has no data
});
document.addEventListener("focusin", ({ target }) => { // by a mouse, a helper's Tab or the page: somebody will write
  if (isTyped(target) && target !== framed) began = performance.now();
});
document.addEventListener("focusout", ({ target }) => {
  if (target === holds) holds = null;
  if (target === entered) entered = null;
});
