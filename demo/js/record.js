// The place Record: one sentence after the other.
import { $, confirmed, element, json, minutes, on, say, state, times } from "./common.js";
import { update } from "./main.js";
import { notWhileRecording, recordButton } from "./recorder.js";

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

function next(prompt = prompts.find((p) => !p.take && !p.skipped)) {
  now = prompt ?? null;
  const done = prompts.filter((p) => p.take).length;
  $("prompt").textContent = now ? now.text : "That was the last sentence. You can add more below, or train.";
  const skipped = prompts.filter((p) => p.skipped).length;
  $("unskip").hidden = !skipped;
  $("unskip").textContent = `Bring back ${times(skipped, "skipped sentence")}`;
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

async function save(recording, voice, prompt) {
  const form = new FormData();
  form.append("file", recording, "recording.wav");
  form.append("text", prompt.text);
  const saved = await json("POST", `/api/voices/${voice}/recordings`, form);
  if (state.voice?.id !== voice) return; // another one was chosen meanwhile
  prompt.take = saved.take;
  last = { voice, prompt, take: saved.take };
  update(saved.voice);
  summary();
  kindly(saved.notes);
  say(saved.notes.length ? `Saved. ${saved.notes[0].text}` : "Saved.");
  next();
  takes();
}

function kindly(notes) {
  $("kind").hidden = notes.length === 0;
  $("kind").textContent = notes.map((note) => note.text).join(" ") + " You can record it again, or just go on.";
}

const recorder = recordButton({
  button: $("rec"),
  label: $("rec-label"),
  meter: $("level"),
  word: $("level-word"),
  texts: { start: "Start recording", wait: "One moment…", stop: "Stop", saving: "Saving…", retry: "Try to save again" },
  begin: () => {
    const [voice, prompt] = [state.voice.id, now];
    return (recording) => save(recording, voice, prompt);
  },
});
export const { leave, hasUnsaved } = recorder;

/** Another voice is used from now on: nothing of the one before may go into it. */
export function forget() {
  recorder.forget();
  uploads = [];
  $("upload-texts").replaceChildren(); // before the next line, which would empty those still on their way to their voice
  $("upload-form").reset();
  $("names").value = "";
  $("sets").replaceChildren();
}

/** A handler that would change the sentence on the page, or be heard: not while one is recorded. */
const still = (handler) => (event) => { notWhileRecording(); return handler(event); };

on("again", "click", still(() => { next(last.prompt); $("kind").hidden = true; $("rec").focus(); say("Read it once more."); }));
on("listen", "click", still(() => new Audio(`${base()}/recordings/${last.take}`).play()));
on("skip", "click", still(async () => {
  prompts = await json("POST", `${base()}/skip`, { text: now.text, skipped: true });
  next();
  $("rec").focus();
}));
on("unskip", "click", still(async () => {
  const place = base(); // another voice may be chosen before the last is back
  let found = prompts;
  for (const { text } of prompts.filter((p) => p.skipped)) found = await json("POST", `${place}/skip`, { text, skipped: false });
  if (!state.voice || place !== base()) return;
  prompts = found;
  next();
  $("rec").focus();
}));
on("pause", "click", async () => {
  if (!(await leave())) throw new Error("The last recording is not saved yet. Press “Try to save again” first.");
  $("recording").hidden = true; $("paused").hidden = false; $("resume").focus();
});
on("resume", "click", () => { $("recording").hidden = false; $("paused").hidden = true; $("rec").focus(); });

const areas = () => [...$("sets").querySelectorAll("textarea")];
const written = () => Object.fromEntries(areas().map((a) => [a.dataset.set, a.value.split("\n").filter((l) => l.trim())]));
const field = (name, lines, i) => [
  element("label", `${name}: one sentence on a line`, { for: `set-${i}` }),
  element("textarea", lines.join("\n"), { id: `set-${i}`, rows: 6, "data-set": name }),
];

const isUnsaved = () => areas().some((a) => a.value !== a.defaultValue);

async function sets() {
  if (isUnsaved() && $("sets").dataset.voice === state.voice.id) return; // what somebody wrote stays
  const found = Object.entries(await json("GET", `${base()}/phrases`));
  $("sets").dataset.voice = state.voice.id;
  $("sets").replaceChildren(...found.flatMap(([name, lines], i) => field(name, lines, i)));
}

async function saveSets() {
  await json("PUT", `${base()}/phrases`, written());
  areas().forEach((a) => { a.defaultValue = a.value; });
}

on("add-set", "click", () => {
  const name = $("new-set").value.trim();
  if (!name) throw new Error("Write a name for the set first.");
  if (areas().some((a) => a.dataset.set === name)) throw new Error("There is a set of that name already.");
  $("sets").append(...field(name, [], areas().length));
  $("new-set").value = "";
  areas().at(-1).focus();
});
on("sets-form", "submit", still(async () => { if (isUnsaved()) await saveSets(); await show(); say("The sentences are saved."); }));
on("names-form", "submit", still(async () => {
  const names = $("names").value.split("\n").filter((l) => l.trim());
  if (!names.length) throw new Error("Write a name first.");
  if (isUnsaved()) await saveSets(); // the names go into one of them
  await json("POST", `${base()}/names`, names);
  $("names").value = "";
  await show();
  say(`${times(names.length, "name")} added.`);
}));

let uploads = []; // { file, label, text } of the recordings that are not added yet

on("upload-files", "change", () => {
  uploads = [...$("upload-files").files].map((file, i) => ({
    file,
    label: element("label", `What is said in ${file.name}`, { for: `said-${i}` }),
    text: element("input", "", { id: `said-${i}`, required: "", maxlength: 500, autocomplete: "off" }),
  }));
  $("upload-texts").replaceChildren(...uploads.flatMap(({ label, text }) => [label, text]));
});
on("upload-form", "submit", async () => {
  if (!uploads.length) throw new Error("Choose recordings first.");
  const [voice, place, chosen] = [state.voice.id, base(), uploads]; // all are this voice's, whoever is chosen meanwhile
  const said = [];
  const left = [];
  for (const upload of chosen) {
    const form = new FormData();
    form.append("file", upload.file);
    form.append("text", upload.text.value);
    form.append("free", "true");
    try {
      const saved = await json("POST", `${place}/recordings`, form);
      update(saved.voice);
      said.push(...saved.notes.map((note) => `${upload.file.name}: ${note.text}`));
      upload.label.remove();
      upload.text.remove();
    } catch (error) { // the others do not suffer
      left.push(upload);
      said.push(`${upload.file.name} was not added. ${error.message}`);
    }
  }
  const added = chosen.length - left.length;
  if (uploads === chosen) uploads = left;
  if (!uploads.length) $("upload-form").reset();
  if (state.voice?.id === voice) {
    summary();
    await takes();
  }
  say([`${times(added, "recording")} added.`, ...said].join(" "), said.length > 0);
});

async function takes() {
  const found = await json("GET", `${base()}/recordings`);
  $("takes").replaceChildren(...found.map((take) => {
    const item = element("li");
    item.append(
      element("span", `${take.text} (${take.seconds.toFixed(1)} s)`),
      element("button", "Listen", { type: "button", "aria-label": `Listen to: ${take.text}`, onclick: still(() => new Audio(`${base()}/recordings/${take.id}`).play()) }),
      element("button", "Delete", { type: "button", class: "danger", "aria-label": `Delete: ${take.text}`, onclick: still(() => remove(take)) }),
    );
    return item;
  }));
}

async function remove(take) {
  if (!(await confirmed(`Delete this recording? “${take.text}”`))) return;
  update(await json("DELETE", `${base()}/recordings/${take.id}`));
  if (last?.take === take.id) last = null;
  await show();
  $("h-takes").focus();
  say(state.voice.training?.running ? "Deleted. The training that is going on still uses it, and forgets it at its end." : "Deleted.");
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
