// A button that starts and stops a recording.
import { notWhileRecording, start, stop } from "./microphone.js";
import { say } from "./messages.js";

const TWITCH = 500; // milliseconds after the start in which a second press is not meant
const SILENT = 4000; // milliseconds without a sound after which it is said
const [SOUND, QUIET, LOUD] = [0.02, 0.05, 0.98]; // loudest values, of 1

/**
 * A button that starts and stops. `begin` is called at the start and returns what to do with the recording at the end.
 * Where that fails, the recording is kept, and the next press tries again.
 */
export class RecordButton {
  constructor({ button, label, meter, word, texts, begin }) {
    Object.assign(this, { button, label, texts, begin });
    this.loudness = new Loudness(meter, word);
    this.busy = false;
    this.began = 0;
    this.use = null; // what `begin` returned
    this.open = null; // the recording this button started
    this.kept = null; // a recording that nobody has taken yet
    button.addEventListener("click", () => { if (!this.open || performance.now() - this.began > TWITCH) this.press(); });
    window.addEventListener("beforeunload", (event) => { if (this.kept || this.busy || this.isLive()) event.preventDefault(); });
  }

  isLive() { return this.button.classList.contains("live"); }

  /** Whether a recording waits to be saved; what is on its way to whom it belongs may be saved yet. */
  hasUnsaved() { return this.kept !== null && !this.busy; }

  /** End a recording that is going on; returns whether nothing is left to save. */
  async leave() {
    if (this.isLive()) await this.press();
    while (this.busy) await new Promise((resolve) => setTimeout(resolve, 50));
    return !this.kept;
  }

  /** Drop what is kept. */
  forget() {
    if (!this.hasUnsaved()) return;
    this.kept = null;
    this.label.textContent = this.texts.start;
  }

  async press() {
    if (this.busy) return;
    this.busy = true;
    try {
      if (this.kept) await this.deliver();
      else if (this.open) await this.end();
      else await this.start();
    } catch (error) {
      this.button.classList.remove("live");
      this.label.textContent = this.kept ? this.texts.retry : this.texts.start;
      say(error.message, true);
    } finally {
      this.busy = false;
    }
  }

  async start() {
    notWhileRecording(); // by the other button
    this.use = this.begin();
    this.label.textContent = this.texts.wait;
    this.loudness.begin();
    const open = await start((peak) => this.loudness.show(peak));
    if (!this.button.checkVisibility()) { // the place was left meanwhile: nobody would see that it listens
      await stop(open);
      this.label.textContent = this.texts.start;
      return;
    }
    this.open = open;
    this.began = performance.now();
    this.button.classList.add("live");
    this.label.textContent = this.texts.stop;
  }

  async end() {
    this.label.textContent = this.texts.saving;
    const ended = this.open;
    this.open = null;
    this.kept = await stop(ended);
    this.button.classList.remove("live");
    this.loudness.end();
    await this.deliver();
  }

  async deliver() {
    this.label.textContent = this.texts.saving;
    try {
      await this.use(this.kept);
      this.kept = null;
    } catch (error) {
      if (error.refused) this.kept = null;
      throw error;
    }
    this.label.textContent = this.texts.start;
  }
}

/** How loud it is, in a meter and a word; what is wrong is said once, as somebody may not see either. */
class Loudness {
  constructor(meter, word) {
    Object.assign(this, { meter, word });
  }

  begin() {
    this.highest = 0;
    this.heard = false;
    this.said = false;
    this.quietSince = performance.now();
  }

  show(peak) {
    this.highest = Math.max(peak, this.highest * 0.97);
    this.meter.value = Math.min(1, this.highest);
    if (peak > SOUND) {
      this.heard = true;
      this.quietSince = performance.now();
    }
    const silent = performance.now() - this.quietSince > SILENT;
    const loud = this.highest > LOUD;
    const word = loud ? "Too loud: a little away from the microphone" : silent ? "I hear nothing" : this.highest < QUIET ? "Quiet" : "Good";
    if (this.word.textContent !== word) this.word.textContent = word;
    if (this.said || !(loud || (silent && !this.heard))) return;
    this.said = true;
    say(`${word}.`);
  }

  end() {
    this.meter.value = 0;
    this.word.textContent = "";
  }
}
