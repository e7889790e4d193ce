// At Record: the sentences to read, in sets that can be changed, and names of people, places and pets.
import { $, element, json, on, state, times, voicePath } from "./common.js";
import { say } from "./messages.js";
import { still } from "./microphone.js";
import * as record from "./record.js";

let originals = {}; // the sets that come with the app: name -> lines
let saved = ""; // what the server has
let count = 0; // of the fields there were, so that each has an id of its own

const areas = () => [...$("sets").querySelectorAll("textarea")];
const linesOf = (text) => text.split("\n").filter((line) => line.trim());
const written = () => Object.fromEntries(areas().map((area) => [area.dataset.set, linesOf(area.value)]));
const isUnsaved = () => areas().length > 0 && JSON.stringify(written()) !== saved;

export async function show() {
  const voice = state.voice.id;
  if (isUnsaved() && $("sets").dataset.voice === voice) return; // what somebody wrote stays
  const [theirs, mine] = await Promise.all([json("GET", "/api/phrases"), json("GET", `${voicePath()}/phrases`)]);
  if (state.voice?.id !== voice) return;
  originals = theirs;
  count = 0;
  $("sets").dataset.voice = voice;
  $("sets").replaceChildren(...Object.entries(mine).map(([name, lines]) => field(name, lines)));
  saved = JSON.stringify(written());
}

/** Another voice is used from now on. */
export function forget() {
  $("names").value = "";
  $("sets").replaceChildren();
}

/** A set: its sentences, and how to be rid of what was done to them. */
function field(name, lines) {
  const id = `set-${count++}`;
  const area = element("textarea", lines.join("\n"), { id, rows: 6, "data-set": name });
  const label = element("label", `${name}: one sentence on a line`, { for: id });
  const box = element("div");
  const button = (text, onclick) => element("button", text, { type: "button", "aria-label": `${text}: ${name}`, onclick });
  box.append(label, area);
  if (name in originals) {
    const changed = () => area.value !== originals[name].join("\n");
    const back = button("Put the original sentences back", () => {
      area.value = originals[name].join("\n");
      area.focus();
      back.hidden = true;
      say("The original sentences are back. Press “Save the sentences” to keep them.");
    });
    back.hidden = !changed();
    area.addEventListener("input", () => { back.hidden = !changed(); });
    box.append(back);
  } else {
    box.append(button("Remove this set", () => {
      box.remove();
      $("new-set").focus();
      say(`The set ${name} goes when you press “Save the sentences”. What was recorded stays.`);
    }));
  }
  return box;
}

async function save() {
  await json("PUT", `${voicePath()}/phrases`, written());
  saved = JSON.stringify(written());
}

on("add-set", "click", () => {
  const name = $("new-set").value.trim();
  if (!name) throw new Error("Write a name for the set first.");
  if (areas().some((area) => area.dataset.set === name)) throw new Error("There is a set of that name already.");
  $("sets").append(field(name, []));
  $("new-set").value = "";
  areas().at(-1).focus();
});
on("sets-form", "submit", still(async () => {
  if (isUnsaved()) await save();
  await record.show();
  say("The sentences are saved.");
}));
on("names-form", "submit", still(async () => {
  const names = linesOf($("names").value);
  if (!names.length) throw new Error("Write a name first.");
  if (isUnsaved()) await save(); // the names go into one of them
  await json("POST", `${voicePath()}/names`, names);
  $("names").value = "";
  await record.show();
  say(`${times(names.length, "name")} added.`);
}));
