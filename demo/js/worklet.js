// Runs in the browser's audio thread: hands every block of sound to the page.
class Tap extends AudioWorkletProcessor {
  process(inputs) {
    if (inputs[0][0]) this.port.postMessage(inputs[0][0].slice());
    return true;
  }
}
registerProcessor("tap", Tap);
