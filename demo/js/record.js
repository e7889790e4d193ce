// The place Record: one sentence after the other.
import { $, confirmed, element, json, minutes, on, say, state, times } from "./common.js";
import { choose } from "./main.js";
import { isRecording, listMicrophones, recordButton } from "./recorder.js";

let prompts = [];
let now = null; // the sentence to read
let last = null; // { voice, prompt, take } of the recording just saved
const base = () => `/api/voices/${state.voice.id}`;

export async function show() {
  if (last?.voice !== state.voice.id) last = null;
  prompts = await json("GET", `${base()}/prompts`);
  $("paused").hidden = true;
  $("recording").hidden = false;
  next();
  summary();
  await Promise.all([sets(), takes()]);
}

export const leave = () => { if (isRecording()) $("rec").click(); };

function next(prompt = prompts.find((p) => !p.take && !p.skipped)) {
  now = prompt ?? null;
  const done = prompts.filter((p) => p.take).length;
  $("prompt").textContent = now ? now.text : "That was the last sentence. You can add more below, or train.";
  $("prompt-place").textContent = now ? `Sentence ${done + (now.take ? 0 : 1)} of ${prompts.length} · ${now.set}` : "";
  $("rec").disabled = $("skip").disabled = !now;
  $("again").disabled = $("listen").disabled = !last;
}

function summary() {
  const { recordings, minutes: spoken } = state.voice;
  $("progress-text").textContent = `${times(recordings, "recording")}, ${minutes(spoken)} of speech.`;
  $("dose").value = spoken;
  const { doses, least } = state.about;
  const ahead = doses.find((dose) => spoken < dose.minutes);
  const start = recordings < least ? `You can train from ${least} recordings on. ` : "";
  $("dose-text").textContent = start + (ahead ?? doses.at(-1)).text + " (Study of 195 people with speech impairments, 2021.)";
}

async function save(recording) {
  if (!now) return;
  const prompt = now;
  const form = new FormData();
  form.append("file", recording, "recording.wav");
  form.append("text", prompt.text);
  const saved = await json("POST", `${base()}/recordings`, form);
  prompt.take = saved.take;
  last = { voice: saved.voice.id, prompt, take: saved.take };
  choose(saved.voice);
  summary();
  kindly(saved.notes);
  say(saved.notes.length ? `Saved. ${saved.notes[0].text}` : "Saved.");
  next();
  takes();
  listMicrophones();
}

function kindly(notes) {
  $("kind").hidden = notes.length === 0;
  $("kind").textContent = notes.map((note) => note.text).join(" ") + " You can record it again, or just go on.";
}

recordButton({
  button: $("rec"),
  label: $("rec-label"),
  meter: $("level"),
  word: $("level-word"),
  texts: { start: "Start recording", wait: "One moment…", stop: "Stop", saving: "Saving…" },
  onWav: save,
});

on("again", "click", () => { next(last.prompt); $("kind").hidden = true; $("rec").focus(); say("Read it once more."); });
on("listen", "click", () => new Audio(`${base()}/recordings/${last.take}`).play());
on("skip", "click", async () => {
  prompts = await json("POST", `${base()}/skip`, { text: now.text, skipped: true });
  next();
  $("rec").focus();
});
on("pause", "click", () => { leave(); $("recording").hidden = true; $("paused").hidden = false; $("resume").focus(); });
on("resume", "click", () => { $("recording").hidden = false; $("paused").hidden = true; $("rec").focus(); });

async function sets(found) {
  found ??= await json("GET", `${base()}/phrases`);
  $("sets").replaceChildren(...Object.entries(found).flatMap(([name, lines], i) => {
    const area = element("textarea", "", { id: `set-${i}`, rows: 6, "data-set": name });
    area.value = lines.join("\n");
    return [element("label", `${name}: one sentence on a line`, { for: `set-${i}` }), area];
  }));
}

on("add-set", "click", async () => {
  const name = $("new-set").value.trim();
  if (!name) throw new Error("Write a name for the set first.");
  await sets({ ...written(), [name]: [] });
  $("new-set").value = "";
  [...$("sets").querySelectorAll("textarea")].at(-1).focus();
});
const written = () => Object.fromEntries([...$("sets").querySelectorAll("textarea")].map((a) => [a.dataset.set, a.value.split("\n").filter((l) => l.trim())]));
on("sets-form", "submit", async () => { await json("PUT", `${base()}/phrases`, written()); await show(); say("The sentences are saved."); });
on("names-form", "submit", async () => {
  const names = $("names").value.split("\n").filter((l) => l.trim());
  if (!names.length) throw new Error("Write a name first.");
  await json("POST", `${base()}/names`, names);
  $("names").value = "";
  await show();
  say(`${times(names.length, "name")} added.`);
});

on("upload-files", "change", () => {
  $("upload-texts").replaceChildren(...[...$("upload-files").files].flatMap((file, i) => [
    element("label", `What is said in ${file.name}`, { for: `said-${i}` }),
    element("input", "", { id: `said-${i}`, required: "", maxlength: 500, autocomplete: "off" }),
  ]));
});
on("upload-form", "submit", async () => {
  const files = [...$("upload-files").files];
  if (!files.length) throw new Error("Choose recordings first.");
  for (const [i, file] of files.entries()) {
    const form = new FormData();
    form.append("file", file);
    form.append("text", $(`said-${i}`).value);
    form.append("free", "true");
    choose((await json("POST", `${base()}/recordings`, form)).voice);
  }
  $("upload-form").reset();
  $("upload-texts").replaceChildren();
  summary();
  await takes();
  say(`${times(files.length, "recording")} added.`);
});

async function takes() {
  const found = await json("GET", `${base()}/recordings`);
  $("takes").replaceChildren(...found.map((take) => {
    const item = element("li");
    item.append(
      element("span", `${take.text} (${take.seconds.toFixed(1)} s)`),
      element("button", "Listen", { type: "button", "aria-label": `Listen to: ${take.text}`, onclick: () => new Audio(`${base()}/recordings/${take.id}`).play() }),
      element("button", "Delete", { type: "button", class: "danger", "aria-label": `Delete: ${take.text}`, onclick: () => remove(take) }),
    );
    return item;
  }));
}

async function remove(take) {
  if (!(await confirmed(`Delete this recording? “${take.text}”`))) return;
  choose(await json("DELETE", `${base()}/recordings/${take.id}`));
  if (last?.take === take.id) last = null;
  await show();
  say("Deleted.");
}

// The space bar records from anywhere but a field or another button.
document.addEventListener("keydown", (event) => {
  const here = !$("view-record").hidden && !$("recording").hidden;
  const there = !$("view-transcribe").hidden;
  if (event.code !== "Space" || event.repeat || (!here && !there)) return;
  if (event.target.closest("button, a, input, textarea, select, summary, dialog")) return;
  event.preventDefault();
  $(here ? "rec" : "talk").click();
});
