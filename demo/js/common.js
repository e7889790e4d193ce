// What every place of the page uses: calls to the server, and the voice that is chosen.
import { say } from "./messages.js";

export const $ = (id) => document.getElementById(id);
export const state = { voice: null, about: null };

/** Where the server has the voice that is chosen. */
export const voicePath = () => `/api/voices/${state.voice.id}`;

export const gone = () => new Error("The app does not answer. Is it still running?");

/** Call the server; throws an Error with a sentence in it, `refused` where sending the same again cannot help. */
export async function call(method, path, body) {
  const options = { method };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  let reply;
  try {
    reply = await fetch(path, options);
  } catch {
    throw gone();
  }
  if (reply.ok) return reply;
  if (reply.status === 401) throw new Error("Log in again: open this page in another tab.");
  const said = await reply.json().catch(() => null);
  const error = new Error(sentence(said?.error?.message ?? `That did not work (${reply.status}).`));
  error.refused = reply.status === 413 || said?.error?.code === "unusable"; // all else may pass: a disk, a load, a login
  throw error;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const json = async (method, path, body) => (await call(method, path, body)).json();

/** What the server answers as a file. */
export const blob = async (method, path, body) => (await call(method, path, body)).blob().catch(() => { throw gone(); });

/** Hand a file to the browser, which puts it among the downloads. */
export function download(file, name) {
  const address = URL.createObjectURL(file);
  element("a", "", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** Run a handler; what goes wrong in it is said, not lost. A press while the one before is at work was a tremor. */
export const safely = (handler) => {
  let busy = false;
  return async (event) => {
    event?.preventDefault?.();
    const press = ["click", "submit"].includes(event?.type);
    if (press && busy) return;
    busy ||= press;
    try {
      await handler(event);
    } catch (error) {
      say(error.message, true);
    } finally {
      if (press) busy = false;
    }
  };
};

export const on = (id, event, handler) => $(id).addEventListener(event, safely(handler));

/** A new element: its text, and attributes such as class or listeners such as onclick. */
export function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), safely(value));
    else made.setAttribute(name, value);
  }
  return made;
}

/** Ask before something is lost. */
export function confirmed(question, yes = "Yes, delete", no = "No, keep it") {
  return new Promise((resolve) => {
    const dialog = $("confirm");
    $("confirm-yes").textContent = yes;
    $("confirm-no").textContent = no;
    $("confirm-text").textContent = question;
    const answer = (agreed) => () => { dialog.close(); resolve(agreed); };
    $("confirm-yes").onclick = answer(true);
    $("confirm-no").onclick = answer(false);
    dialog.oncancel = answer(false);
    dialog.showModal();
    $("confirm-no").focus();
  });
}

export const minutes = (m) => (m < 1 ? `${Math.round(m * 60)} seconds` : `${m.toFixed(1)} minutes`);
export const times = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
