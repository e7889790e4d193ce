// Which place is shown, which voice is chosen, and the settings, which this browser remembers.
import { $, confirmed, json, on, state } from "./common.js";
import { say } from "./messages.js";
import { listMicrophones } from "./microphone.js";
import * as record from "./record.js";
import "./scan.js";
import * as train from "./train.js";
import * as transcribe from "./transcribe.js";
import * as voices from "./voices.js";

const places = { voices, record, train, transcribe };
let place = "";
let visit = 0;

/** Use a voice from now on. */
export function choose(voice) {
  if (voice?.id !== state.voice?.id) [record, transcribe].forEach((one) => one.forget()); // what is of the one before
  state.voice = voice;
  $("who").textContent = voice ? voice.name : "none yet";
  if (voice) localStorage.setItem("voice", voice.id);
  else localStorage.removeItem("voice");
}

/** Whether another voice may be used: a recording of this one that is not saved yet would be lost. */
export async function mayLeaveVoice() {
  return !record.hasUnsaved() || confirmed("The last recording is not saved yet. Use another voice, and lose it?", "Yes, lose it");
}

/** Take in a voice's newer state, unless another one was chosen while it was on its way. */
export function update(voice) {
  if (voice.id === state.voice?.id) choose(voice);
}

/** What the page needs before anything else: what the server says about itself, and the voice that was used last. */
async function begin() {
  const [about, known] = await Promise.all([json("GET", "/api/about"), json("GET", "/api/voices")]);
  const chosen = localStorage.getItem("voice");
  choose(known.find((voice) => voice.id === chosen) ?? (known.length === 1 ? known[0] : null));
  state.about = about;
}

/** The place that the page's address names, or the one that fits. */
function wanted() {
  const named = location.hash.slice(1);
  const found = named in places ? named : state.voice ? "record" : "voices";
  if (state.voice || !["record", "train"].includes(found)) return found;
  say("Choose or make a voice first.");
  return "voices";
}

/** Go to the place of the page's address, which is shown when it has all it shows. */
async function go() {
  visit += 1;
  const [mine, left] = [visit, place];
  try {
    if (!state.about) await begin();
    if (mine !== visit) return;
    place = wanted();
    if (location.hash !== `#${place}`) history.replaceState(null, "", `#${place}`); // else to go there later is no change
    places[left]?.leave?.();
    mark();
    await places[place].show();
    if (mine !== visit) return;
    reveal(`view-${place}`);
    if (left && left !== place) $(`h-${place}`).focus();
  } catch (error) {
    if (mine !== visit) return;
    $("unreached-why").textContent = error.message;
    reveal("unreached");
    $("h-unreached").focus();
  }
}

function mark() {
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${place}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${$(`h-${place}`).textContent} – My voice`;
}

function reveal(id) {
  for (const part of document.querySelectorAll("main > section")) part.hidden = part.id !== id;
}

on("try-again", "click", async () => {
  await go();
  if (!$(`view-${place || "voices"}`).hidden) $(`h-${place}`).focus(); // the button that had the focus is gone
});

function remember(id, apply) {
  const field = $(id);
  const kept = localStorage.getItem(id);
  if (kept !== null) {
    if (field.type === "checkbox") field.checked = kept === "true";
    else field.value = kept;
    field.dispatchEvent(new Event("change"));
  }
  field.addEventListener("change", () => {
    localStorage.setItem(id, field.type === "checkbox" ? field.checked : field.value);
    apply?.();
  });
  apply?.();
}

remember("text-size", () => document.documentElement.style.setProperty("--scale", $("text-size").value));
remember("scan-on");
remember("scan-speed");
remember("scan-wait");
$("microphone").addEventListener("change", () => localStorage.setItem("microphone", $("microphone").value));
listMicrophones().catch(() => {});
window.addEventListener("hashchange", go);
document.querySelector(".skip").addEventListener("click", (event) => { // its address is not that of a place
  event.preventDefault();
  $("main").focus();
});
await go();
