// The place Transcribe: what was said, by the personal voice and by the standard model, side by side.
import { $, call, element, json, on, say, state } from "./common.js";
import { update } from "./main.js";
import { recordButton } from "./recorder.js";

const TITLES = { personal: "Your voice", base: "Standard" };
const SAID = 80; // letters of a transcript that are said at the bottom of the page; all of it is shown above
let sound = null; // the recording that is shown
let shown = {}; // which -> segments
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
  say("Listening…");
  const reply = await call("POST", "/api/transcribe", form);
  for await (const found of lines(reply.body)) {
    if (mine !== shown) return; // another recording, or another voice, is shown by now
    if (found.error && found.which !== "personal") throw Object.assign(new Error(found.error), { refused: !found.again });
    if (found.error) {
      say(`Your voice could not be used. ${found.error}`, true);
      continue;
    }
    shown[found.which] ??= [];
    if (found.segment) shown[found.which].push(found.segment);
    draw();
  }
  if (mine !== shown) return;
  draw();
  const best = shown.personal ?? shown.base ?? [];
  const text = textOf(best);
  say(text ? `Heard: ${text.length > SAID ? `${text.slice(0, SAID)}…` : text}` : "I heard no words.");
  $("correct-text").value = text;
  offer(recording);
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) yield JSON.parse(part);
  }
}

const textOf = (segments) => segments.map((s) => s.text).filter(Boolean).join(" ");

function draw() {
  const order = ["personal", "base"].filter((which) => shown[which]);
  $("texts").replaceChildren(...order.map(column));
}

function column(which) {
  const segments = shown[which];
  const box = element("section", "", { class: "panel", "aria-labelledby": `h-${which}` });
  const text = element("p", "", { class: "text", id: `text-${which}` });
  let doubts = 0;
  for (const segment of segments) {
    const words = segment.words.length ? segment.words : [{ text: segment.text, sure: 1 }];
    for (const word of words) {
      const unsure = word.sure < state.about.uncertain;
      if (unsure) doubts += 1;
      const span = element("span", word.text, unsure ? { class: "unsure" } : {});
      if (unsure) span.append(element("span", " (not sure)", { class: "unseen" }));
      text.append(span, " ");
    }
  }
  if (!textOf(segments)) text.append(element("span", "(no words heard)", { class: "small" }));
  const others = element("ul", "", { class: "plain", id: `others-${which}` });
  const buttons = element("div", "", { class: "row" });
  const label = TITLES[which];
  const button = (name, onclick) => element("button", name, { type: "button", "aria-label": `${name}: ${label}`, onclick });
  buttons.append(
    button("Copy", () => copy(textOf(segments))),
    button("Read aloud", () => readAloud(textOf(segments))),
    button("What else it could be", () => alternatives(which, others)),
    button("Subtitles", () => subtitles(which)),
  );
  box.append(element("h2", label, { id: `h-${which}` }), text);
  if (segments.some((s) => s.problem)) box.append(element("p", "It was hard to hear: much of this may be wrong.", { class: "small" }));
  if (doubts) box.append(element("p", "Words with dots below and a question mark are not certain.", { class: "small" }));
  box.append(buttons, others);
  return box;
}

async function alternatives(which, list) {
  say("Listening again…");
  const [mine, recording, segments] = [shown, sound, shown[which]];
  const found = [];
  for (const { start, end } of segments) {
    const form = new FormData();
    form.append("file", recording, "recording");
    if (which === "personal") form.append("voice", state.voice.id);
    form.append("start", start);
    form.append("end", end);
    const texts = await json("POST", "/api/alternatives", form);
    if (mine !== shown) return; // another recording is shown by now
    found.push(...texts.map((text) => [segments.length > 1 ? `${clock(start)} ` : "", text]));
  }
  const current = $(list.id) ?? list;
  current.replaceChildren(...found.map(([when, text]) => {
    const item = element("li");
    item.append(element("span", when + text));
    if (state.voice && segments.length === 1) item.append(element("button", "This is it", { type: "button", "aria-label": `This is it: ${text}`, onclick: () => pick(text) }));
    return item;
  }));
  say(`${found.length} ways to hear it, the likeliest first.`);
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

async function readAloud(text) {
  if (!text) return;
  const reply = await call("POST", "/api/speak", { text }).catch(() => null);
  if (reply) {
    const address = URL.createObjectURL(await reply.blob());
    const player = new Audio(address);
    player.onended = () => URL.revokeObjectURL(address);
    await player.play();
    return;
  }
  const local = speechSynthesis.getVoices().find((voice) => voice.localService); // others send the text away
  if (!local) throw new Error("There is no voice on this computer to read it.");
  const utterance = new SpeechSynthesisUtterance(text);
  utterance.voice = local;
  speechSynthesis.speak(utterance);
}

async function subtitles(which) {
  const form = new FormData();
  form.append("file", sound, "recording");
  form.append("response_format", "vtt");
  const { data } = await json("GET", "/v1/models");
  const model = which === "personal" ? data.find((m) => m.id.endsWith(`:${state.voice.id}`)) : data[0];
  if (!model) throw new Error("What was learnt from this voice is gone. Transcribe the recording again.");
  form.append("model", model.id);
  const text = await (await call("POST", "/v1/audio/transcriptions", form)).text();
  const address = URL.createObjectURL(new Blob([text], { type: "text/vtt" }));
  element("a", "", { href: address, download: "subtitles.vtt" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
  say("The subtitles are in your downloads.");
}

const recorder = recordButton({
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
export const { leave } = recorder;
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
