// Which place is shown, which voice is chosen, and the settings, which this browser remembers.
import { $, confirmed, json, say, state } from "./common.js";
import * as record from "./record.js";
import "./scan.js";
import * as train from "./train.js";
import * as transcribe from "./transcribe.js";
import * as voices from "./voices.js";

const places = { voices, record, train, transcribe };
let place = "";

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

async function go() {
  let wanted = location.hash.slice(1);
  if (!(wanted in places)) wanted = state.voice ? "record" : "voices";
  if (!state.voice && ["record", "train"].includes(wanted)) {
    say("Choose or make a voice first.");
    wanted = "voices";
  }
  if (location.hash !== `#${wanted}`) history.replaceState(null, "", `#${wanted}`); // else to go there later is no change
  places[place]?.leave?.();
  const moved = place !== "" && place !== wanted;
  place = wanted;
  for (const name of Object.keys(places)) $(`view-${name}`).hidden = name !== place;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${place}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${$(`h-${place}`).textContent} – My voice`;
  try {
    await places[place].show();
  } catch (error) {
    say(error.message, true);
  }
  if (moved) $(`h-${place}`).focus();
}

function remember(id, event, apply) {
  const field = $(id);
  const kept = localStorage.getItem(id);
  if (kept !== null) {
    if (field.type === "checkbox") field.checked = kept === "true";
    else field.value = kept;
    field.dispatchEvent(new Event("change"));
  }
  field.addEventListener(event, () => {
    localStorage.setItem(id, field.type === "checkbox" ? field.checked : field.value);
    apply?.();
  });
  apply?.();
}

try {
  state.about = await json("GET", "/api/about");
  const chosen = localStorage.getItem("voice");
  const known = await json("GET", "/api/voices");
  choose(known.find((voice) => voice.id === chosen) ?? (known.length === 1 ? known[0] : null));
} catch (error) {
  say(error.message, true);
}
remember("text-size", "change", () => document.documentElement.style.setProperty("--scale", $("text-size").value));
remember("scan-on", "change");
remember("scan-speed", "change");
window.addEventListener("hashchange", go);
document.querySelector(".skip").addEventListener("click", (event) => { // its address is not that of a place
  event.preventDefault();
  $("main").focus();
});
await go();
