// The place Train: how long it takes, how far it is, what it brought.
import { $, confirmed, json, minutes, on, state, times, voicePath } from "./common.js";
import { update } from "./main.js";
import { say } from "./messages.js";

const PHASES = {
  starting: "Getting ready",
  listening: "Listening to your recordings",
  learning: "Learning your voice",
  testing: "Trying it on sentences it has not heard",
};
let timer = 0;
let learnt = null; // the voice that was being learnt when last looked, whichever is chosen and wherever the user is
let lost = false;

const isUnfinished = ({ training }) => Boolean(training) && training.phase !== "failed";
const isRunning = (voice) => isUnfinished(voice) && Boolean(voice.training.running);

export async function show() {
  const voice = await json("GET", voicePath());
  update(voice);
  follow(voice);
  if (voice.id === state.voice?.id) draw(voice);
}

/** Look how far it is; a server that is started again is found again. */
async function look() {
  try {
    if (learnt && learnt.id !== state.voice?.id) follow(await json("GET", `/api/voices/${learnt.id}`));
    if (state.voice && (learnt?.id === state.voice.id || !$("view-train").hidden)) await show();
    lost = false;
  } catch (error) {
    if (!lost && !$("view-train").hidden) say(`${error.message} I keep looking for it.`, true);
    lost = true;
    timer = setTimeout(look, 5000);
  }
}

/** Say how a training ended that was going on when last looked, and look again as long as there is one. */
function follow(voice) {
  const running = isRunning(voice);
  if (learnt?.id === voice.id && !running) {
    const whose = voice.id === state.voice?.id ? "Training" : `The training of ${voice.name}`;
    say(isUnfinished(voice) ? `${whose} was interrupted.` : voice.training ? `${whose} did not work.` : `${whose} is done.`);
  }
  if (running) learnt = voice;
  else if (learnt?.id === voice.id) learnt = null;
  clearTimeout(timer);
  if (learnt || isUnfinished(voice)) timer = setTimeout(look, 2000);
}

/** A voice is gone: nothing is left to look at. */
export function forget(id) {
  if (learnt?.id === id) learnt = null;
}

function draw(voice) {
  const { training } = voice;
  const [unfinished, running] = [isUnfinished(voice), isRunning(voice)];
  const { least } = state.about;
  const focused = document.activeElement;
  $("train-have").textContent = `You have ${times(voice.recordings, "recording")}, ${minutes(voice.minutes)} of speech.`;
  $("train-time").textContent = voice.recordings < least
    ? `Training needs at least ${least} recordings: ${least - voice.recordings} more.`
    : `Training will take about ${span(voice.estimate_s)} on this computer.`;
  $("train-time").hidden = $("train").hidden = running;
  $("train").disabled = voice.recordings < least;
  $("train").textContent = unfinished ? "Go on training" : "Train now";
  $("training").hidden = !training;
  $("training-now").hidden = !running;
  $("stop-training").hidden = !unfinished;
  if (training) {
    const left = training.seconds_left === undefined ? span(training.expected_s) : span(training.seconds_left);
    $("training-text").textContent = running ? `${phase(training)}: about ${left} to go.`
      : unfinished ? "It was interrupted. What it has learnt so far is kept." : `It did not work. ${training.reason}`;
    $("training-bar").value = training.share;
  }
  results(voice);
  if ($("view-train").contains(focused) && !focused.checkVisibility()) $(voice.result && !training ? "h-result" : "h-train").focus();
}

/** What it does; it has `others` where one training at a time works and they go first. */
const phase = ({ phase: name, others }) => (name === "waiting" ? `Waits for ${times(others ?? 1, "other")}` : PHASES[name]);

function results({ result, id, report, left }) {
  $("result").hidden = !result;
  if (!result) return;
  const more = advice(result.more, left);
  $("result-verdict").textContent = {
    better: "It understands you better now.",
    unsure: `It seems to understand you better, but there are too few sentences to be sure. ${more}`,
    "not yet": `It did not help yet. ${result.kept ? "What was learnt before is kept, and used as before. " : ""}${more}`,
  }[result.verdict];
  $("before").value = result.before;
  $("after").value = result.after;
  $("before-text").textContent = `${result.before} of 10 words understood`;
  $("after-text").textContent = `${result.after} of 10 words understood`;
  const range = result.low === null ? " That is too few to say how sure this is." : ` With other sentences it could be between ${result.low} and ${result.high} of 10.`;
  $("result-how").textContent = `Tried on ${times(result.sentences, "sentence")} with ${result.words} words that were kept aside and never learnt.${range}`;
  $("report").href = `/api/voices/${id}/report`;
  $("report").hidden = !report;
}

/** What to record before the next training: no more sentences than there are left to read. */
function advice(more, left = more) {
  if (left === 0) return "All sentences are recorded: write sentences of your own under Record, and train again.";
  return `Record ${times(Math.min(more, left), "more sentence")} and train again.`;
}

function span(seconds) {
  if (seconds < 90) return "one minute";
  return `${Math.floor(seconds / 60)} to ${Math.ceil((seconds * 1.5) / 60)} minutes`;
}

/** Take in a voice's newer state, and show it. */
function take(voice) {
  update(voice);
  follow(voice);
  draw(voice);
}

on("train", "click", async () => {
  take(await json("POST", `${voicePath()}/training`));
  say("Training has begun.");
  $("h-train").focus();
});
on("stop-training", "click", async () => {
  const question = "Stop training? What it has learnt so far is thrown away; your recordings stay.";
  if (!(await confirmed(question, "Yes, stop", "No, go on"))) return;
  const voice = await json("DELETE", `${voicePath()}/training`);
  forget(voice.id); // it did not end by itself
  take(voice);
  say("Training is stopped. Your recordings are all here.");
  $("train").focus();
});
