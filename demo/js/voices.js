// The place Voices: who there is, a new one, moving and deleting.
import { $, blob, confirmed, download, element, json, minutes, on, state, times } from "./common.js";
import { choose, mayLeaveVoice } from "./main.js";
import { busy, say } from "./messages.js";
import * as train from "./train.js";

export async function show() {
  const voices = await json("GET", "/api/voices");
  $("no-voices").hidden = voices.length > 0;
  $("voice-list").replaceChildren(...voices.map(card));
  $("consent").textContent = state.about.consent;
}

function card(voice) {
  const item = element("li", "", voice.id === state.voice?.id ? { class: "chosen" } : {});
  const about = `${times(voice.recordings, "recording")}, ${minutes(voice.minutes)}; ${voice.trained ? "trained" : "not trained yet"}`;
  const buttons = element("div", "", { class: "row" });
  const button = (text, kind, onclick) => element("button", text, { type: "button", class: kind, "aria-label": `${text}: ${voice.name}`, onclick });
  buttons.append(
    button("Use this voice", "primary", () => use(voice)),
    ...(voice.trained ? [button("Export", "", () => exported(voice, false))] : []),
    button("Export with recordings", "", () => exported(voice, true)),
    button("Delete", "danger", () => remove(voice)),
  );
  const consent = voice.consent ? `Agreed by ${voice.consent.by}, ${new Date(voice.consent.given).toLocaleDateString()}` : "";
  item.append(element("h2", voice.name), element("p", about), element("p", consent, { class: "small" }), buttons);
  return item;
}

async function use(voice) {
  if (voice.id !== state.voice?.id && !(await mayLeaveVoice())) return;
  choose(voice);
  location.hash = voice.trained ? "#transcribe" : "#record";
}

async function exported(voice, recordings) {
  busy("Making the file…");
  download(await blob("GET", `/api/voices/${voice.id}/export?recordings=${recordings}`), `${voice.id}.zip`);
  say(`The voice ${voice.name} is in your downloads.`);
}

async function remove(voice) {
  const question = `Delete the voice ${voice.name}: ${times(voice.recordings, "recording")}, and all that was learnt from them? This cannot be undone.`;
  if (!(await confirmed(question))) return;
  const { deleted } = await json("DELETE", `/api/voices/${voice.id}`);
  if (state.voice?.id === voice.id) choose(null);
  train.forget(voice.id);
  await show();
  say(`Deleted: ${times(deleted, "file")}. Nothing of ${voice.name} is left here.`);
  $("h-voices").focus();
}

on("new-voice", "submit", async () => {
  if (!(await mayLeaveVoice())) return;
  const consent = $("consent").textContent; // what was shown is what is agreed to
  const made = await json("POST", "/api/voices", { name: $("new-name").value, agreed: $("new-agreed").checked, consent, by: $("new-by").value });
  $("new-voice").reset();
  choose(made);
  location.hash = "#record";
});

on("import", "click", async () => {
  const file = $("import-file").files[0];
  if (!file) throw new Error("Choose a file first.");
  if (!(await mayLeaveVoice())) return;
  const form = new FormData();
  form.append("file", file);
  busy("Bringing it in…");
  const made = await json("POST", "/api/voices/import", form);
  choose(made);
  $("import-file").value = "";
  await show();
  say(`The voice ${made.name} is here.`);
});
