// The place Voices: who there is, a new one, moving and deleting.
import { $, call, confirmed, element, json, minutes, on, say, state, times } from "./common.js";
import { choose, mayLeaveVoice } from "./main.js";

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
  buttons.append(
    element("button", "Use this voice", {
      type: "button",
      class: "primary",
      "aria-label": `Use the voice ${voice.name}`,
      onclick: () => use(voice),
    }),
    ...(voice.trained ? [element("a", "Export", { class: "button", href: `/api/voices/${voice.id}/export`, download: "", "aria-label": `Export the voice ${voice.name}` })] : []),
    element("a", "Export with recordings", { class: "button", href: `/api/voices/${voice.id}/export?recordings=true`, download: "", "aria-label": `Export the voice ${voice.name} with its recordings` }),
    element("button", "Delete", { type: "button", class: "danger", "aria-label": `Delete the voice ${voice.name}`, onclick: () => remove(voice) }),
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

async function remove(voice) {
  const question = `Delete the voice ${voice.name}: ${times(voice.recordings, "recording")}, and all that was learnt from them? This cannot be undone.`;
  if (!(await confirmed(question))) return;
  const { deleted } = await json("DELETE", `/api/voices/${voice.id}`);
  if (state.voice?.id === voice.id) choose(null);
  await show();
  say(`Deleted: ${times(deleted, "file")}. Nothing of ${voice.name} is left here.`);
  $("h-voices").focus();
}

on("new-voice", "submit", async () => {
  if (!(await mayLeaveVoice())) return;
  const made = await json("POST", "/api/voices", { name: $("new-name").value, agreed: $("new-agreed").checked, by: $("new-by").value });
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
  const made = await (await call("POST", "/api/voices/import", form)).json();
  choose(made);
  $("import-file").value = "";
  await show();
  say(`The voice ${made.name} is here.`);
});
