// At Record: all recordings there are, to hear and to delete.
import { $, confirmed, element, json, state, voicePath } from "./common.js";
import { update } from "./main.js";
import { say } from "./messages.js";
import { still } from "./microphone.js";
import { playAddress } from "./player.js";
import * as record from "./record.js";

export async function show() {
  const path = `${voicePath()}/recordings`;
  const found = await json("GET", path);
  if (state.voice && path === `${voicePath()}/recordings`) $("takes").replaceChildren(...found.map(item));
}

function item(take) {
  const made = element("li");
  const path = `${voicePath()}/recordings/${take.id}`;
  const button = (text, kind, onclick) => element("button", text, { type: "button", class: kind, "aria-label": `${text}: ${take.text}`, onclick: still(onclick) });
  made.append(
    element("span", `${take.text} (${take.seconds.toFixed(1)} s)`),
    button("Listen", "", () => playAddress(path)),
    button("Delete", "danger", () => remove(path, take)),
  );
  return made;
}

async function remove(path, take) {
  if (!(await confirmed(`Delete this recording? “${take.text}”`))) return;
  update(await json("DELETE", path));
  await record.show();
  $("h-takes").focus();
  say(state.voice.training?.running ? "Deleted. The training that is going on still uses it, and forgets it at its end." : "Deleted.");
}
