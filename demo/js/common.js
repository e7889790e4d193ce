// What every place of the page uses: calls to the server, the voice that is chosen, and what is said to the user.

export const $ = (id) => document.getElementById(id);
export const state = { voice: null, about: null };

let clearing = 0;

/** Say something: shown at the bottom of the page and read out by a screen reader. */
export function say(text, wrong = false) {
  $(wrong ? "status" : "alert").textContent = "";
  $(wrong ? "alert" : "status").textContent = text;
  clearTimeout(clearing);
  clearing = setTimeout(() => { $("status").textContent = $("alert").textContent = ""; }, wrong ? 20000 : 8000);
}

/** Call the server; throws an Error with a sentence in it where it says no. */
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
    throw new Error("The app does not answer. Is it still running?");
  }
  if (reply.ok) return reply;
  const said = await reply.json().catch(() => null);
  throw new Error(said?.error?.message ?? `That did not work (${reply.status}).`);
}

export const json = async (method, path, body) => (await call(method, path, body)).json();

/** Run a handler; what goes wrong in it is said, not lost. */
export const safely = (handler) => async (event) => {
  event?.preventDefault?.();
  try {
    await handler(event);
  } catch (error) {
    say(error.message, true);
  }
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

/** Ask before something is deleted. */
export function confirmed(question) {
  return new Promise((resolve) => {
    const dialog = $("confirm");
    $("confirm-text").textContent = question;
    const answer = (yes) => () => { dialog.close(); resolve(yes); };
    $("confirm-yes").onclick = answer(true);
    $("confirm-no").onclick = answer(false);
    dialog.oncancel = answer(false);
    dialog.showModal();
    $("confirm-no").focus();
  });
}

export const minutes = (m) => (m < 1 ? `${Math.round(m * 60)} seconds` : `${m.toFixed(1)} minutes`);
export const times = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;
