// One switch for everything: a frame steps from control to control; space, enter or a click presses the one it is on.
import { $ } from "./common.js";

const CONTROLS = "button, nav a, a.button, summary, select, input[type=checkbox], input[type=number], input[type=file]";
const TYPED = "textarea, input:not([type=checkbox], [type=number], [type=file])";
let at = -1;
let timer = 0;

const reachable = () => {
  const dialog = document.querySelector("dialog[open]");
  return [...(dialog ?? document).querySelectorAll(CONTROLS)].filter((item) => !item.disabled && item.checkVisibility());
};

function step() {
  if (document.activeElement?.matches(TYPED)) return; // somebody writes
  const items = reachable();
  document.querySelectorAll(".scanned").forEach((item) => item.classList.remove("scanned"));
  if (!items.length) return;
  const live = items.find((item) => item.classList.contains("live"));
  at = live ? items.indexOf(live) : (at + 1) % items.length; // while recording there is only one thing to do: stop
  items[at].classList.add("scanned");
  items[at].focus({ preventScroll: true });
  items[at].scrollIntoView({ block: "nearest" });
}

function press(event) {
  if (!$("scan-on").checked || event.repeat || event.isTrusted === false) return;
  if (event.type === "keydown" && !["Space", "Enter", "NumpadEnter"].includes(event.code)) return;
  if (event.target.matches?.(TYPED)) return;
  const item = document.querySelector(".scanned");
  if (!item) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  use(item);
  restart();
}

/** What a press does: lists and numbers go on to their next value, and from the last to the first. */
function use(item) {
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
