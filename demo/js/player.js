// What is heard: one sound at a time. A second press ends it, and so does a recording, which would hear it too.
import { blob } from "./common.js";
import { say } from "./messages.js";

let playing = null; // { what, stop }

/** End what is heard. */
export function hush() {
  playing?.stop();
  playing = null;
}

/**
 * Play something, or end it where it is what is heard already. `what` tells it from other sounds; `begin` gets what to
 * call at its end, and returns what stops it.
 */
async function play(what, begin) {
  const again = playing?.what === what;
  hush();
  if (again) return;
  const mine = { what, stop() {} };
  playing = mine;
  const ended = () => { if (playing === mine) hush(); };
  try {
    const stop = await begin(ended);
    if (playing === mine) mine.stop = stop;
    else stop(); // something else was pressed while it was on its way
  } catch (error) {
    ended();
    throw error;
  }
}

/** Play a sound of the app. */
export const playAddress = (path) => play(path, async (ended) => begun(await blob("GET", path), ended));

/** Read a text aloud, with the voice of the app's computer or of this one. */
export function readAloud(text) {
  if (!text) return undefined;
  return play(`text ${text}`, async (ended) => {
    const sound = await blob("POST", "/api/speak", { text }).catch(() => null);
    return sound ? begun(sound, ended) : spoken(text, ended);
  });
}

async function begun(sound, ended) {
  const address = URL.createObjectURL(sound);
  const player = new Audio(address);
  const stop = () => { player.pause(); URL.revokeObjectURL(address); };
  player.onended = ended;
  await player.play().catch(() => { stop(); throw new Error("This browser could not play it."); });
  say("Press it again to end it.");
  return stop;
}

function spoken(text, ended) {
  const local = speechSynthesis.getVoices().find((voice) => voice.localService); // others send the text away
  if (!local) throw new Error("There is no voice on this computer to read it.");
  const utterance = new SpeechSynthesisUtterance(text);
  utterance.voice = local;
  utterance.onend = ended;
  speechSynthesis.speak(utterance);
  return () => speechSynthesis.cancel();
}
