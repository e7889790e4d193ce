// The place Record: one sentence after the other.
import { $, json, minutes, on, state, times, voicePath } from "./common.js";
import { update } from "./main.js";
import { say } from "./messages.js";
import { still } from "./microphone.js";
import { playAddress } from "./player.js";
import { RecordButton } from "./recorder.js";
import * as sets from "./sets.js";
import * as takes from "./takes.js";
import * as uploads from "./uploads.js";

let prompts = [];
let now = null; // the sentence to read
let last = null; // the one whose recording was just saved: { id, take }
let skipped = null; // the one that was just skipped: its id

export async function show() {
  const path = voicePath();
  const found = await json("GET", `${path}/prompts`);
  if (!state.voice || path !== voicePath()) return; // another one was chosen meanwhile
  prompts = found;
  $("paused").hidden = true;
  $("recording").hidden = false;
  next();
  summary();
  await Promise.all([sets.show(), takes.show()]);
}

function next(prompt = prompts.find((p) => !p.take && !p.skipped)) {
  now = prompt ?? null;
  if (!prompts.some((p) => p.take && p.take === last?.take)) last = null; // of another voice, or deleted
  const done = prompts.filter((p) => p.take).length;
  $("prompt").textContent = now ? now.text : "That was the last sentence. You can add more below, or train.";
  const left = prompts.filter((p) => p.skipped);
  $("unskip").hidden = !left.length;
  $("unskip").textContent = `Bring back ${times(left.length, "skipped sentence")}`;
  $("undo-skip").hidden = left.length < 2 || !left.some((p) => p.id === skipped); // of one, both would do the same
  $("prompt-place").textContent = now ? `Sentence ${done + (now.take ? 0 : 1)} of ${prompts.length} · ${now.set}` : "";
  $("rec").disabled = !now && !recorder.hasUnsaved();
  $("skip").disabled = !now;
  $("again").disabled = $("listen").disabled = !last;
}

/** Let the next press be where it is expected: on the button, or where it cannot be pressed, on what is said instead. */
const focus = () => $($("rec").disabled ? "prompt" : "rec").focus();

export function summary() {
  const { recordings, minutes: spoken } = state.voice;
  $("progress-text").textContent = `${times(recordings, "recording")}, ${minutes(spoken)} of speech.`;
  $("dose").value = spoken;
  const { doses, least } = state.about;
  const ahead = doses.find((dose) => spoken < dose.minutes);
  const start = recordings < least ? `You can train from ${least} recordings on. ` : "";
  $("dose-text").textContent = `${start}${(ahead ?? doses.at(-1)).text} (A study of 195 people with speech impairments, in 2021; the app is another recogniser than theirs.)`;
}

async function save(recording, voice, prompt) {
  const form = new FormData();
  form.append("file", recording, "recording.wav");
  form.append("text", prompt.text);
  const saved = await json("POST", `/api/voices/${voice}/recordings`, form);
  if (state.voice?.id !== voice) return; // another one was chosen meanwhile
  const known = prompts.find((p) => p.id === prompt.id) ?? prompt; // the list may have been fetched anew since
  Object.assign(known, { take: saved.take, skipped: false });
  last = known;
  update(saved.voice);
  summary();
  kindly(saved.notes);
  say(saved.notes.length ? `Saved. ${saved.notes[0].text}` : "Saved.");
  const pressed = document.activeElement === $("rec");
  next();
  if (pressed) focus();
  takes.show();
}

function kindly(notes) {
  $("kind").hidden = notes.length === 0;
  $("kind").textContent = notes.map((note) => note.text).join(" ") + " You can record it again, or just go on.";
}

const recorder = new RecordButton({
  button: $("rec"),
  label: $("rec-label"),
  meter: $("level"),
  word: $("level-word"),
  texts: { start: "Start recording", wait: "One moment…", stop: "Stop", saving: "Saving…", retry: "Try to save again" },
  begin: () => {
    if (!now) throw new Error("There is no sentence to read. Open this place again.");
    const [voice, prompt] = [state.voice.id, now];
    return (recording) => save(recording, voice, prompt);
  },
});
export const leave = () => recorder.leave();
export const hasUnsaved = () => recorder.hasUnsaved();

/** Another voice is used from now on: nothing of the one before may go into it. */
export function forget() {
  recorder.forget();
  prompts = [];
  next(null);
  $("prompt").textContent = "";
  kindly([]);
  uploads.forget();
  sets.forget();
}

on("again", "click", still(() => { next(last); kindly([]); $("rec").focus(); say("Read it once more."); }));
on("listen", "click", still(() => playAddress(`${voicePath()}/recordings/${last.take}`)));
on("skip", "click", still(async () => {
  skipped = now.id;
  prompts = await json("POST", `${voicePath()}/skip`, { text: now.text, skipped: true });
  next();
  focus();
}));
on("undo-skip", "click", still(() => bringBack(prompts.filter((p) => p.id === skipped))));
on("unskip", "click", still(() => bringBack(prompts.filter((p) => p.skipped))));

async function bringBack(some) {
  const path = voicePath(); // another voice may be chosen before the last is back
  let found = prompts;
  for (const { text } of some) found = await json("POST", `${path}/skip`, { text, skipped: false });
  if (!state.voice || path !== voicePath()) return;
  prompts = found;
  next(prompts.find((p) => p.id === some[0].id));
  focus();
}

on("pause", "click", async () => {
  if (!(await leave())) throw new Error("The last recording is not saved yet. Press “Try to save again” first.");
  $("recording").hidden = true; $("paused").hidden = false; $("resume").focus();
});
on("resume", "click", () => { $("recording").hidden = false; $("paused").hidden = true; focus(); });

// The space bar records from anywhere but a field or another button.
document.addEventListener("keydown", (event) => {
  const here = !$("view-record").hidden && !$("recording").hidden;
  const there = !$("view-transcribe").hidden;
  if (event.code !== "Space" || event.repeat || (!here && !there)) return;
  if (event.target.closest("button, a, input, textarea, select, summary, dialog")) return;
  event.preventDefault();
  $(here ? "rec" : "talk").click();
});
