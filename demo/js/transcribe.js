// The place Transcribe: what was said, by the personal voice and by the standard model, side by side.
import { $, blob, call, download, element, json, on, state } from "./common.js";
import { update } from "./main.js";
import { busy, say } from "./messages.js";
import { still } from "./microphone.js";
import { readAloud } from "./player.js";
import { RecordButton } from "./recorder.js";

const TITLES = { personal: "Your voice", base: "Standard" };
const SAID = 80; // letters of a transcript that are said at the bottom of the page; all of it is shown above
const BROKEN = "The app stopped answering in the middle, so the text may not be all. Is it still running?";
let sound = null; // the recording that is shown
let shown = {}; // which -> its column: segments, and the elements that grow with them
let correctable = null; // the recording that the form would add: the one that is shown, when all of it is there, and once

export async function show() {
  offer(correctable);
}

/** Show the form for a recording, or none. */
function offer(recording) {
  correctable = recording;
  $("correct").hidden = !correctable || !state.voice;
}

/** Another voice is used from now on. */
export function forget() {
  recorder.forget();
  sound = null;
  shown = {};
  $("texts").hidden = true;
  offer(null);
}

async function transcribe(recording, voice) {
  if (voice !== state.voice?.id) return; // another one was chosen while it was spoken
  sound = recording;
  const mine = {};
  shown = mine;
  $("texts").replaceChildren();
  $("texts").hidden = false;
  offer(null);
  const form = new FormData();
  form.append("file", recording, "recording");
  if (voice) form.append("voice", voice);
  const heard = busy("Listening…");
  try {
    const reply = await call("POST", "/api/transcribe", form);
    for await (const found of lines(reply.body)) {
      if (mine !== shown) return; // another recording, or another voice, is shown by now
      if (found.error && found.which !== "personal") throw Object.assign(new Error(found.error), { refused: !found.again });
      if (found.error) {
        say(`Your voice could not be used. ${found.error}`, true);
        continue;
      }
      shown[found.which] ??= column(found.which);
      add(shown[found.which], found.segment);
    }
  } finally {
    heard();
  }
  if (mine !== shown) return;
  const text = textOf((shown.personal ?? shown.base)?.segments ?? []);
  say(text ? `Heard: ${text.length > SAID ? `${text.slice(0, SAID)}…` : text}` : "I heard no words.");
  $("correct-text").value = text;
  offer(recording);
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch(() => { throw new Error(BROKEN); });
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

const textOf = (segments) => segments.map((s) => s.text).filter(Boolean).join(" ");

/** An empty column for what one of the two hears. */
function column(which) {
  const label = TITLES[which];
  const box = element("section", "", { class: "panel", "aria-labelledby": `h-${which}` });
  const made = {
    segments: [],
    text: element("p", "", { class: "text", id: `text-${which}` }),
    none: element("p", "(no words heard)", { class: "small" }),
    hard: element("p", "It was hard to hear: much of this may be wrong.", { class: "small" }),
    doubts: element("p", "Words with dots below and a question mark are not certain.", { class: "small" }),
    others: element("ul", "", { class: "plain", id: `others-${which}` }),
  };
  made.hard.hidden = made.doubts.hidden = true;
  const buttons = element("div", "", { class: "row" });
  const button = (name, onclick) => element("button", name, { type: "button", "aria-label": `${name}: ${label}`, onclick });
  buttons.append(
    button("Copy", () => copy(textOf(made.segments))),
    button("Read aloud", still(() => readAloud(textOf(made.segments)))),
    button("What else it could be", () => alternatives(which, made)),
    button("Subtitles", () => subtitles(which)),
  );
  box.append(element("h2", label, { id: `h-${which}` }), made.text, made.none, made.hard, made.doubts, buttons, made.others);
  $("texts")[which === "personal" ? "prepend" : "append"](box);
  return made;
}

/** Append a segment to a column; what is there already stays, and the focus with it. */
function add(made, segment) {
  if (!segment) return;
  made.segments.push(segment);
  const words = segment.words.length ? segment.words : [{ text: segment.text, sure: 1 }];
  for (const word of words) {
    const unsure = word.sure < state.about.uncertain;
    const span = element("span", word.text, unsure ? { class: "unsure" } : {});
    if (unsure) {
      span.append(element("span", " (not sure)", { class: "unseen" }));
      made.doubts.hidden = false;
    }
    made.text.append(span, " ");
  }
  if (segment.text) made.none.hidden = true;
  if (segment.problem) made.hard.hidden = false;
}

async function alternatives(which, { segments, others }) {
  const heard = busy("Listening again…");
  const [mine, recording] = [shown, sound];
  const found = [];
  for (const { start, end } of segments) {
    const form = new FormData();
    form.append("file", recording, "recording");
    if (which === "personal") form.append("voice", state.voice.id);
    form.append("start", start);
    form.append("end", end);
    const texts = await json("POST", "/api/alternatives", form);
    if (mine !== shown) return heard(); // another recording is shown by now
    found.push(...texts.map((text) => [segments.length > 1 ? `${clock(start)} ` : "", text]));
  }
  others.replaceChildren(...found.map(([when, text]) => {
    const item = element("li");
    item.append(element("span", when + text));
    if (state.voice && segments.length === 1) item.append(element("button", "This is it", { type: "button", "aria-label": `This is it: ${text}`, onclick: () => pick(text) }));
    return item;
  }));
  return say(`${found.length} ways to hear it, the likeliest first.`);
}

const clock = (s) => `${Math.floor(s / 60)}:${String(Math.floor(s % 60)).padStart(2, "0")}`;

/** Correct without writing; it is kept by the same button as what is written. */
function pick(text) {
  if (!correctable) throw new Error("This recording is not complete yet, or was added already.");
  $("correct-text").value = text;
  $("correct-add").focus();
}

async function copy(text) {
  if (!navigator.clipboard) throw new Error("Browsers copy only from https and localhost. Select the words, then press Ctrl and C.");
  await navigator.clipboard.writeText(text);
  say("Copied.");
}

async function subtitles(which) {
  busy("Making the subtitles…");
  const form = new FormData();
  form.append("file", sound, "recording");
  form.append("response_format", "vtt");
  const { data } = await json("GET", "/v1/models");
  const model = which === "personal" ? data.find((m) => m.id.endsWith(`:${state.voice.id}`)) : data[0];
  if (!model) throw new Error("What was learnt from this voice is gone. Transcribe the recording again.");
  form.append("model", model.id);
  download(await blob("POST", "/v1/audio/transcriptions", form), "subtitles.vtt");
  say("The subtitles are in your downloads.");
}

const recorder = new RecordButton({
  button: $("talk"),
  label: $("talk-label"),
  meter: $("talk-level"),
  word: $("talk-word"),
  texts: { start: "Start speaking", wait: "One moment…", stop: "Stop", saving: "Listening…", retry: "Try again" },
  begin: () => {
    const voice = state.voice?.id;
    return (recording) => transcribe(recording, voice);
  },
});
export const leave = () => recorder.leave();
on("file-go", "click", async () => {
  const file = $("file").files[0];
  if (!file) throw new Error("Choose a recording first.");
  await transcribe(file, state.voice?.id);
});
on("correct", "submit", async () => {
  const added = correctable;
  const form = new FormData();
  form.append("file", added, "recording");
  form.append("text", $("correct-text").value);
  form.append("free", "true");
  const { voice, notes } = await json("POST", `/api/voices/${state.voice.id}/recordings`, form);
  update(voice);
  if (correctable === added) offer(null);
  say(["Added to your recordings.", ...notes.map((note) => note.text)].join(" "));
  $("talk").focus();
});
