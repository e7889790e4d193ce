// At Record: recordings that somebody has as files, and what is said in them.
import { $, element, json, on, state, times, voicePath } from "./common.js";
import { update } from "./main.js";
import { busy, say } from "./messages.js";
import { summary } from "./record.js";
import * as takes from "./takes.js";

let uploads = []; // { file, label, text } of the recordings that are not added yet

/** Another voice is used from now on. */
export function forget() {
  uploads = [];
  $("upload-texts").replaceChildren(); // before the next line, which would empty those still on their way to their voice
  $("upload-form").reset();
}

const isText = (file) => file.name.toLowerCase().endsWith(".txt");
const stem = (file) => file.name.replace(/\.[^.]*$/, "");

on("upload-files", "change", async () => {
  const chosen = [...$("upload-files").files];
  const texts = chosen.filter(isText);
  uploads = chosen.filter((file) => !isText(file)).map((file, i) => ({
    file,
    label: element("label", `What is said in ${file.name}`, { for: `said-${i}` }),
    text: element("input", "", { id: `said-${i}`, required: "", maxlength: 500, autocomplete: "off" }),
  }));
  $("upload-texts").replaceChildren(...uploads.flatMap(({ label, text }) => [label, text]));
  for (const { file, text } of uploads) {
    const its = texts.find((one) => stem(one) === stem(file));
    if (its) text.value = (await its.text()).split(/\s+/).join(" ").trim();
  }
});
on("upload-form", "submit", async () => {
  if (!uploads.length) throw new Error("Choose recordings first.");
  const [voice, path, chosen] = [state.voice.id, voicePath(), uploads]; // all are this voice's, whoever is chosen meanwhile
  const said = [];
  const left = [];
  for (const [i, upload] of chosen.entries()) {
    busy(`Adding recording ${i + 1} of ${chosen.length}…`);
    try {
      said.push(...(await add(upload, path)));
    } catch (error) { // the others do not suffer
      left.push(upload);
      said.push(`${upload.file.name} was not added. ${error.message}`);
    }
  }
  const added = chosen.length - left.length;
  if (uploads === chosen) uploads = left;
  if (!uploads.length) $("upload-form").reset();
  if (state.voice?.id === voice) {
    summary();
    await takes.show();
  }
  say([`${times(added, "recording")} added.`, ...said].join(" "), said.length > 0);
});

/** Add a recording; returns what is to be said of it. */
async function add({ file, label, text }, path) {
  const form = new FormData();
  form.append("file", file);
  form.append("text", text.value);
  form.append("free", "true");
  const saved = await json("POST", `${path}/recordings`, form);
  update(saved.voice);
  label.remove();
  text.remove();
  return saved.notes.map((note) => `${file.name}: ${note.text}`);
}
