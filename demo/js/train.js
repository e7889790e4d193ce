// The place Train: how long it takes, how far it is, what it brought.
import { $, confirmed, json, minutes, on, say, state, times } from "./common.js";
import { update } from "./main.js";

const PHASES = {
  starting: "Getting ready",
  listening: "Listening to your recordings",
  learning: "Learning your voice",
  testing: "Trying it on sentences it has not heard",
};
let timer = 0;
let wasRunning = ""; // the voice that was learnt when last looked
let lost = false;

export async function show() {
  update(await json("GET", `/api/voices/${state.voice.id}`));
  draw();
}

/** Look how far it is; a server that is started again is found again. */
async function look() {
  if ($("view-train").hidden) return;
  try {
    await show();
    lost = false;
  } catch (error) {
    if (!lost) say(`${error.message} I keep looking for it.`, true);
    lost = true;
    timer = setTimeout(look, 5000);
  }
}

export const leave = () => clearTimeout(timer);

function draw() {
  const voice = state.voice;
  const training = voice.training;
  const unfinished = training && training.phase !== "failed";
  const running = unfinished && training.running;
  const { least } = state.about;
  $("train-have").textContent = `You have ${times(voice.recordings, "recording")}, ${minutes(voice.minutes)} of speech.`;
  $("train-time").textContent = voice.recordings < least
    ? `Training needs at least ${least} recordings: ${least - voice.recordings} more.`
    : `Training will take about ${span(voice.estimate_s)} on this computer.`;
  $("train-time").hidden = $("train").hidden = running;
  $("train").disabled = voice.recordings < least;
  $("train").textContent = unfinished ? "Go on training" : "Train now";
  $("training").hidden = !training;
  $("stop-training").hidden = !unfinished;
  if (training) {
    const left = training.seconds_left === undefined ? span(training.expected_s) : span(training.seconds_left);
    $("training-text").textContent = running ? `${phase(training)}: about ${left} to go.`
      : unfinished ? "It was interrupted. What it has learnt so far is kept." : `It did not work. ${training.reason}`;
    $("training-bar").value = training.share;
  }
  if (wasRunning === voice.id && !running) say(unfinished ? "Training was interrupted." : training ? "Training did not work." : "Training is done.");
  wasRunning = running ? voice.id : "";
  results(voice);
  clearTimeout(timer);
  if (unfinished) timer = setTimeout(look, 2000);
}

/** What it does; it has `others` where one training at a time works and they go first. */
const phase = ({ phase: name, others }) => (name === "waiting" ? `Waits for ${times(others ?? 1, "other")}` : PHASES[name]);

function results({ result, id, report }) {
  $("result").hidden = !result;
  if (!result) return;
  const more = `Record ${result.more} more sentences and train again.`;
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

function span(seconds) {
  if (seconds < 90) return "one minute";
  return `${Math.floor(seconds / 60)} to ${Math.ceil((seconds * 1.5) / 60)} minutes`;
}

on("train", "click", async () => {
  update(await json("POST", `/api/voices/${state.voice.id}/training`));
  draw();
  say("Training has begun.");
  $("h-train").focus();
});
on("stop-training", "click", async () => {
  const question = "Stop training? What it has learnt so far is thrown away; your recordings stay.";
  if (!(await confirmed(question, "Yes, stop", "No, go on"))) return;
  update(await json("DELETE", `/api/voices/${state.voice.id}/training`));
  wasRunning = "";
  draw();
  say("Training is stopped. Your recordings are all here.");
  $("train").focus();
});
