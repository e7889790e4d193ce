// One switch for everything: a frame steps from button to button; space, enter or a click presses the one it is on.
import { $ } from "./common.js";

let at = -1;
let timer = 0;

const reachable = () => {
  const dialog = document.querySelector("dialog[open]");
  return [...(dialog ?? document).querySelectorAll("button, nav a, a.button, summary, input[type=checkbox]")].filter(
    (item) => !item.disabled && item.checkVisibility(),
  );
};

function step() {
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
  if (event.target.closest?.("input:not([type=checkbox]), textarea, select")) return;
  const item = document.querySelector(".scanned");
  if (!item) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  item.click();
  restart();
}

function restart() {
  clearInterval(timer);
  if ($("scan-on").checked) timer = setInterval(step, 1000 * Math.max(0.5, Number($("scan-speed").value) || 2));
  else document.querySelectorAll(".scanned").forEach((item) => item.classList.remove("scanned"));
}

$("scan-on").addEventListener("change", restart);
$("scan-speed").addEventListener("change", restart);
document.addEventListener("keydown", press, true);
