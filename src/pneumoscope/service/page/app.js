// The page: it takes files, lists them, and shows one radiograph at a time, twice if two models are compared.
import { Viewer, colour, drawHeat, drawOutline, grayOf, heatPicture, newView, outlineOf, windowed } from "./viewer.js";
import { entry, zip } from "./zip.js";

const $ = (id) => document.getElementById(id);
const AT_A_TIME = 2, LARGEST = 20e6, TRIES = 60, KEPT_IMAGES = 3, ARCHIVE = 1e9;
const FIELDS = ["path", "label", "probability", "threshold", "model", "status", "reason", "bacterial", "prevalence", "image_sha256", "model_sha256", "code", "note",
  "study_instance_uid", "series_instance_uid", "sop_instance_uid", "accession_number"];

const state = {
  models: [], items: [], chosen: null, view: newView(), viewers: [], images: new Map(), running: 0, samples: null,
  stop: new AbortController(), needsToken: false, pressing: false,
};

// Talking to the service -----------------------------------------------------------------------------------

/** Send a request; throws an Error with the sentence of the service. */
async function ask(path, options = {}) {
  const headers = { ...options.headers, ...($("token").value ? { authorization: `Bearer ${$("token").value}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("expected an answer from pneumoscope, received none: is it still running?");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ detail: `expected an answer, received HTTP ${response.status}` }));
  throw Object.assign(new Error(problem.detail), { status: response.status, prediction: problem.prediction });
}

/** The same; if the service is full, wait a second and try again. */
async function askUntilFree(path, options, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await ask(path, options);
    } catch (error) {
      if (error.status !== 503 || tries === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      signal?.throwIfAborted();
    }
  }
}

/** Judge one file with one model. */
async function judge(file, model, signal) {
  await file.slice(0, 1).arrayBuffer().catch(() => { throw new Error("expected the file that was chosen, it can no longer be read: choose it again"); });
  const body = new FormData();
  body.append("files", file, file.name);
  const query = new URLSearchParams({ model, heatmap: "json" });
  if (pointFor(model)) query.set("threshold", pointFor(model));
  try {
    const began = performance.now();
    const answer = await (await askUntilFree(`v1/predictions?${query}`, { method: "POST", body, signal }, signal)).json();
    return { ...answer.predictions[0], ms: performance.now() - began };
  } catch (error) {
    if (error.prediction) return error.prediction;
    throw error;
  }
}

const modelNamed = (name) => state.models.find((model) => model.name === name);
/** Name of the operating point to request from a model; empty for its default. */
const pointFor = (name) => ($("point").value in (modelNamed(name)?.operating_points ?? {}) ? $("point").value : "");
const chosenModels = () => [...new Set([$("model").value, $("second").value])].filter(Boolean);

// The worklist ---------------------------------------------------------------------------------------------

function add(files) {
  for (const file of files) {
    const item = { file, name: file.name || "pasted.png", results: {}, errors: {}, refused: "", cancelled: false, busy: null };
    if (!file.size) item.refused = "expected an image, received an empty file: export it again";
    if (file.size > LARGEST) item.refused = "expected a file of at most 20 MB, received more: save it smaller";
    state.items.push(item);
  }
  if (!state.items.length) return;
  document.body.classList.add("working");
  $("worklist").hidden = false;
  state.chosen ??= state.items[0];
  work();
  draw();
}

/** Keep a few requests running until nothing is left to judge. */
function work() {
  if (state.stop.signal.aborted) state.stop = new AbortController();
  const { signal } = state.stop;
  while (state.running < AT_A_TIME) {
    const job = nextJob();
    if (!job) break;
    const { item, model } = job, { results, errors } = item; // a later answer goes to objects that are no longer used
    state.running++;
    item.busy = model;
    judge(item.file, model, signal)
      .then((result) => { results[model] = result; })
      .catch((error) => {
        if (error.status === 401) askForToken(error);
        else if (error.name !== "AbortError") { errors[model] = error.message; say(`${item.name}: ${error.message}`); }
      })
      .finally(() => { item.busy = null; state.running--; if (!state.stop.signal.aborted) work(); draw(); });
  }
}

function nextJob() {
  if (state.needsToken) return null;
  for (const item of [state.chosen, ...state.items]) {
    if (!item || item.busy || item.refused || item.cancelled) continue;
    const model = chosenModels().find((name) => !item.results[name] && !item.errors[name]);
    if (model) return { item, model };
  }
  return null;
}

function askForToken(error) {
  state.needsToken = true;
  state.stop.abort();
  $("token-label").hidden = false;
  $("token").focus();
  say(error.message);
}

/** Judge images again: all of them, or those that failed or were cancelled. */
function again(everything) {
  for (const item of state.items) {
    if (everything) item.results = {};
    Object.assign(item, { errors: {}, cancelled: false });
  }
  work();
  draw();
}

const judgedBy = (item) => item.results[$("model").value];

/** State of an item: judged, refused, failed, cancelled, working or waiting. */
function fate(item) {
  const models = chosenModels();
  if (item.refused || models.some((name) => item.errors[name])) return "failed";
  const found = models.map((name) => item.results[name]);
  if (models.length && found.every(Boolean)) return found.every((one) => one.label) ? "judged" : "refused";
  return item.cancelled ? "cancelled" : item.busy ? "working" : "waiting";
}

function sorted() {
  const chance = (item) => judgedBy(item)?.probability ?? -1;
  return [...state.items].sort((a, b) => chance(b) - chance(a));
}

function draw() {
  const fates = state.items.map(fate), count = (...names) => fates.filter((one) => names.includes(one)).length;
  const left = count("working", "waiting"), not = count("refused", "failed"), cancelled = count("cancelled");
  const parts = [`${count("judged")} of ${state.items.length} judged`, not && `${not} could not be`, cancelled && `${cancelled} cancelled`];
  $("progress").textContent = state.items.length ? parts.filter(Boolean).join(", ") : "";
  $("worklist").dataset.left = String(left);
  $("bar").max = Math.max(1, state.items.length);
  $("bar").value = state.items.length - left;
  if (!left && document.activeElement === $("cancel")) $("choose").focus();
  $("cancel").hidden = !left;
  if (!count("failed", "cancelled") && document.activeElement === $("again")) $("choose").focus();
  $("again").hidden = !count("failed", "cancelled");
  $("csv").disabled = !state.items.some((item) => judgedBy(item));
  if (!state.saving) $("overlays").disabled = !state.items.some((item) => judgedBy(item)?.heatmap);
  drawRows();
  show();
}

/** Each item keeps its row. Rows change places only while no pointer is pressed on them. */
function drawRows() {
  for (const item of state.items) fillRow(item);
  const lines = sorted().map((item) => item.line), shown = [...$("rows").children];
  if (state.pressing || (lines.length === shown.length && lines.every((line, place) => line === shown[place]))) return;
  const focused = document.activeElement;
  $("rows").replaceChildren(...lines);
  if (focused?.isConnected && focused.closest("#rows")) focused.focus({ preventScroll: true });
}

function fillRow(item) {
  if (!item.line) {
    const open = document.createElement("button");
    Object.assign(open, { type: "button", textContent: item.name, title: item.name });
    open.addEventListener("click", () => { choose(item); reveal($("result")); });
    item.line = document.createElement("tr");
    item.line.append(cell(open), cell(""), cell("", "number"));
  }
  const found = judgedBy(item), [, verdict, chance] = item.line.children;
  item.line.className = item === state.chosen ? "chosen" : "";
  item.line.querySelector("button").setAttribute("aria-pressed", String(item === state.chosen));
  const one = item.refused || item.errors[$("model").value] ? "failed" : found?.status ?? fate(item);
  verdict.textContent = found?.label ? `${found.label}${one === "uncertain" ? ", uncertain" : ""}` : one;
  verdict.className = found?.label ?? one;
  chance.textContent = found?.probability == null ? "–" : found.probability.toFixed(3);
}

function cell(content, name = "") {
  const element = document.createElement("td");
  element.append(content);
  element.className = name ?? "";
  return element;
}

function choose(item) {
  state.chosen = item;
  state.view = Object.assign(state.view, newView());
  draw();
}

/** Scroll to an element outside the window, such as the radiograph below the list on a phone. */
function reveal(element) {
  const { top } = element.getBoundingClientRect();
  if (top < 0 || top > 0.7 * window.innerHeight) element.scrollIntoView();
}

// The radiograph in view -----------------------------------------------------------------------------------

/** The gray values that are judged; for a refused file those that the browser reads; null if it is no picture. */
async function readImage(item) {
  if (item.refused) return null;
  const [first, second] = new Uint8Array(await item.file.slice(0, 2).arrayBuffer());
  let picture = item.file;
  if (first !== 0xff || second !== 0xd8) { // browsers read only JPEG as the service does: not 16 bits, rotated PNGs, or DICOM
    try {
      const options = { method: "POST", body: item.file, headers: { "content-type": "application/octet-stream" } };
      picture = await (await askUntilFree("v1/renderings", options)).blob();
    } catch (error) {
      if (!(error.status >= 400 && error.status < 500) || error.status === 401) throw error;
    }
  }
  const bitmap = await createImageBitmap(picture, { colorSpaceConversion: "none" }).catch(() => null);
  try {
    return bitmap && grayOf(bitmap);
  } finally {
    bitmap?.close();
  }
}

/** The same; the last few images are kept. */
function imageOf(item) {
  const kept = state.images.get(item) ?? readImage(item).catch(() => { state.images.delete(item); return null; });
  state.images.delete(item);
  state.images.set(item, kept);
  for (const oldest of state.images.keys()) if (state.images.size > KEPT_IMAGES) state.images.delete(oldest);
  return kept;
}

async function show() {
  const item = state.chosen, models = item ? chosenModels() : [];
  $("result").hidden = !item;
  if (state.viewers.map((one) => one.model).join() !== models.join()) build(models);
  $("result-title").textContent = item?.name ?? "";
  if (!item) return;
  for (const { model, panel } of state.viewers) fill(panel, item, model);
  const assumed = judgedBy(item)?.prevalence;
  $("calibrated").hidden = assumed == null;
  $("uncalibrated").hidden = assumed != null;
  $("prevalence").textContent = `${Math.round(100 * (assumed ?? 0))} %`;
  $("opacity").disabled = !models.some((model) => item.results[model]?.heatmap);
  for (const { viewer } of state.viewers) {
    if (viewer.item === item) continue;
    viewer.show(null);
    viewer.canvas.parentElement.hidden = $("tools").hidden = false;
    viewer.canvas.setAttribute("aria-label", `The picture of ${item.name} is being read`);
  }
  const image = await imageOf(item);
  if (item !== state.chosen) return;
  for (const { model, viewer } of state.viewers) {
    const found = item.results[model];
    viewer.item = item;
    viewer.canvas.parentElement.hidden = $("tools").hidden = !image;
    viewer.show(image, found?.heatmap);
    const heat = found?.heatmap && state.view.heatmap ? `, with heatmap for ${found.heatmap.label}` : "";
    viewer.canvas.setAttribute("aria-label", image ? `Radiograph ${item.name}, ${found?.label ?? "no verdict"}${heat}` : `No picture of ${item.name}`);
  }
}

function build(models) {
  state.viewers.forEach(({ viewer }) => viewer.close());
  state.viewers = models.map((model) => {
    const panel = document.createElement("div");
    panel.className = "panel";
    panel.innerHTML = `<p class="verdict"><span class="label"></span> <span class="figure"></span> <span class="status"></span></p>
      <div class="chance" role="img"><span></span><i></i></div><p class="reason soft"></p>
      <div class="stage"><canvas tabindex="0" role="img" aria-describedby="keys"></canvas></div>
      <p class="scale"><span>0</span><canvas width="200" height="1" aria-hidden="true"></canvas><span class="most"></span></p>`;
    const bar = panel.querySelector(".scale canvas").getContext("2d");
    for (let x = 0; x < 200; x++) { bar.fillStyle = `rgb(${colour(x / 199).join(" ")})`; bar.fillRect(x, 0, 1, 1); }
    return { model, panel, viewer: new Viewer(panel.querySelector(".stage canvas"), state.view, viewChanged) };
  });
  $("panels").replaceChildren(...state.viewers.map(({ panel }) => panel));
}

function fill(panel, item, model) {
  const found = item.results[model], error = item.refused || item.errors[model];
  const part = (name) => panel.querySelector(`.${name}`);
  const waiting = item.cancelled ? "Cancelled" : state.needsToken ? "Waiting for the token" : "Judging …";
  part("label").textContent = found?.label ?? (found || error ? "Not judged" : waiting);
  part("label").className = `label ${found?.label ?? ""}`;
  const judged = found?.probability != null;
  part("figure").textContent = judged ? `probability of pneumonia ${found.probability.toFixed(3)}` : "";
  const status = error ? "error" : found?.status ?? "";
  part("status").textContent = status === "ok" ? "" : status;
  part("status").className = `status ${status}`;
  const chance = part("chance");
  chance.className = `chance ${found?.label ?? ""}`;
  chance.querySelector("span").style.width = judged ? `${100 * found.probability}%` : "0";
  chance.querySelector("i").style.left = found ? `${100 * found.threshold}%` : "50%";
  chance.querySelector("i").hidden = !judged;
  chance.setAttribute("aria-label", judged ? `${found.probability.toFixed(3)}; PNEUMONIA from ${found.threshold.toFixed(3)} on` : "no probability yet");
  const facts = [error, found?.reason, found?.note, model].filter(Boolean);
  if (judged) facts.push(`PNEUMONIA from ${found.threshold.toFixed(3)} on`);
  if (judged && $("point").value && !pointFor(model)) facts.push(`it has no operating point “${$("point").value}”, so its default is used`);
  if (judged && found.prevalence == null) facts.push("not calibrated");
  if (found?.bacterial != null) facts.push(`if pneumonia: bacterial ${Math.round(100 * found.bacterial)} %, viral ${Math.round(100 - 100 * found.bacterial)} %`);
  if (judged && !found.heatmap) facts.push("this model has no feature map, so no heatmap");
  if (found?.ms) facts.push(`${Math.round(found.ms)} ms`);
  part("reason").textContent = facts.join(" · ");
  part("scale").hidden = !found?.heatmap;
  part("most").textContent = found?.heatmap ? `highest: strongest evidence for ${found.heatmap.label}${found.heatmap.lungs ? "; outline: lungs" : ""}` : "";
}

function viewChanged() {
  const { view } = state;
  for (const { viewer } of state.viewers) viewer.draw();
  $("opacity").value = Math.round(100 * view.opacity);
  $("centre").value = Math.round(view.centre);
  $("width").value = Math.round(view.width);
  document.querySelector("[data-do=invert]").setAttribute("aria-pressed", String(view.invert));
  document.querySelector("[data-do=heatmap]").setAttribute("aria-pressed", String(view.heatmap));
}

const first = () => state.viewers[0].viewer;
const TOOLS = {
  in: () => first().apply({ zoom: state.view.zoom * 1.25 }),
  out: () => first().apply({ zoom: state.view.zoom / 1.25 }),
  invert: () => first().apply({ invert: !state.view.invert }),
  heatmap: () => first().apply({ heatmap: !state.view.heatmap }),
  reset: () => first().reset(),
};

// Saving ---------------------------------------------------------------------------------------------------

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function csv() {
  // As in the files of the command line: \xNN for control characters, and where a spreadsheet would see a formula.
  const hex = (text) => [...new TextEncoder().encode(text)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  const safe = (text) => text.replace(/\\(?=x[0-9a-f]{2})/g, "\\x5c").replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]|(?:^|(?<=;))[=+\-@\uff1d\uff0b\uff0d\uff20]/g, hex);
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = state.items.flatMap((item) => chosenModels().map((model) => {
    const error = item.refused || item.errors[model] || "this was not judged";
    return { ...(item.results[model] ?? { model, status: "error", reason: error }), path: item.name };
  }));
  const lines = [FIELDS, ...rows.map((found) => FIELDS.map((name) => safe(String(found[name] ?? ""))))];
  save(new Blob([lines.map((line) => line.map(quoted).join(",") + "\n").join("")], { type: "text/csv" }), "pneumoscope.csv");
}

/** Save overlays of the images that are judged now, whatever is chosen meanwhile, in archives of about a gigabyte. */
async function overlays() {
  const { items, view: { opacity } } = state, names = new Set();
  const jobs = items.map((item) => ({ item, found: judgedBy(item) })).filter(({ found }) => found?.heatmap);
  let files = [], size = 0, archives = 0, without = 0;
  const write = () => { if (files.length) save(zip(files), `pneumoscope-overlays${++archives > 1 ? `-${archives}` : ""}.zip`); };
  state.saving = $("overlays").disabled = true;
  try {
    for (const { item, found } of jobs) {
      const image = await readImage(item).catch(() => null);
      if (state.items !== items) return; // all items were removed
      if (!image) { without++; continue; }
      const canvas = windowed(image, newView()), context = canvas.getContext("2d");
      const { values, lungs } = found.heatmap, frame = [0, 0, image.width, image.height];
      drawHeat(context, heatPicture(values), ...frame, opacity);
      if (lungs) drawOutline(context, outlineOf(lungs), ...frame);
      const blob = await canvas.convertToBlob({ type: "image/png" });
      canvas.width = canvas.height = 0;
      const stem = item.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]/gu, "_") || "overlay";
      let name = `${stem}.png`;
      for (let n = 2; names.has(name.toLowerCase()); n++) name = `${stem}-${n}.png`;
      names.add(name.toLowerCase());
      files.push(await entry(name, blob));
      size += blob.size;
      if (size > ARCHIVE) { write(); [files, size] = [[], 0]; }
    }
    write();
    if (without) say(`${without} of ${jobs.length} overlays could not be drawn: their files can no longer be read.`);
  } finally {
    state.saving = false;
    draw();
  }
}

// The card of a model --------------------------------------------------------------------------------------

async function card() {
  try {
    const model = await (await ask(`v1/models/${encodeURIComponent($("model").value)}`)).json();
    $("card-title").textContent = model.name;
    const figure = (m) => (m ? `${m.value.toFixed(3)} (${m.low.toFixed(3)} to ${m.high.toFixed(3)}; n = ${m.n})` : "–");
    const { contract } = model, metrics = model.metrics ?? {};
    const facts = {
      "ROC AUC": figure(metrics.roc_auc), Sensitivity: figure(metrics.sensitivity), Specificity: figure(metrics.specificity),
      Accuracy: figure(metrics.accuracy), "Calibration error": figure(metrics.ece),
      "Bacterial against viral, AUC": figure(contract.subtypes),
      "Operating points": Object.entries(model.operating_points).map(([name, at]) => `${name} ${at.toFixed(3)}`).join(", "),
      "Assumed share of pneumonia": model.prevalence ? model.prevalence.toFixed(3) : "not calibrated",
      Architecture: contract.architecture, Input: model.input.join(" × "), "SHA-256": model.sha256,
    };
    $("card-facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => {
      const [term, description] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      description.textContent = value;
      return [term, description];
    }));
    $("card").showModal();
  } catch (error) {
    say(error.message);
  }
}

// Start ------------------------------------------------------------------------------------------------

function say(sentence) {
  $("message").textContent = sentence;
  $("message").hidden = !sentence;
}

async function sample() {
  try {
    state.samples ??= (await (await ask("v1/samples")).json()).samples;
    const taken = new Set(state.items.map((item) => item.name));
    const free = state.samples.filter((name) => !taken.has(name));
    if (!free.length) return say("All bundled samples are in the list.");
    const name = free[(7 * state.items.length + 13) % free.length];
    const blob = await (await ask(`v1/samples/${encodeURIComponent(name)}`)).blob();
    add([new File([blob], name, { type: "image/jpeg" })]);
    choose(state.items.at(-1));
  } catch (error) {
    say(error.message);
  }
}

/** List the operating points of the model. If the service was started with one that has no name, it comes first. */
function points() {
  const before = $("point").value, { operating_points: named = {}, threshold } = modelNamed($("model").value) ?? {};
  const started = Object.keys(named).find((name) => named[name] === threshold);
  const own = started === undefined && threshold !== undefined ? [["", `${threshold.toFixed(3)}, set by this service`]] : [];
  const options = [...own, ...Object.keys(named).map((name) => [name, name])];
  const kept = options.some(([value]) => value === before) && $("point").options.length ? before : started ?? "";
  $("point").replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === kept)));
}

async function begin() {
  try {
    const { models } = await (await ask("v1/models")).json();
    state.models = models;
    $("model").replaceChildren(...models.map(({ name }) => new Option(name, name)));
    $("second").replaceChildren(new Option("no other", ""), ...models.map(({ name }) => new Option(name, name)));
    points();
    say("");
    work();
    draw();
  } catch (error) {
    if (error.status === 401) askForToken(error);
    else say(error.message);
  }
}

$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
$("sample").addEventListener("click", sample);
$("cancel").addEventListener("click", () => {
  for (const item of state.items) if (["waiting", "working"].includes(fate(item))) item.cancelled = true;
  state.stop.abort();
  draw();
});
$("again").addEventListener("click", () => again(false));
$("clear").addEventListener("click", () => {
  state.stop.abort();
  Object.assign(state, { items: [], chosen: null });
  state.images.clear();
  document.body.classList.remove("working");
  $("worklist").hidden = true;
  $("choose").focus();
  say("");
  draw();
});
$("csv").addEventListener("click", csv);
$("overlays").addEventListener("click", overlays);
$("card-button").addEventListener("click", card);
for (const id of ["model", "second", "point"]) {
  $(id).addEventListener("change", () => {
    const before = $("point").value;
    if (id === "model") points();
    again(id === "point" || $("point").value !== before);
  });
}
for (const [name, pressing] of [["pointerdown", true], ["pointerup", false], ["pointercancel", false]]) {
  document.addEventListener(name, (event) => {
    state.pressing = pressing && Boolean(event.target.closest?.("#rows"));
    if (!pressing) setTimeout(drawRows); // after the click that follows
  });
}
$("settings").addEventListener("submit", (event) => event.preventDefault()); // for Enter in the field of the token
$("token").addEventListener("change", () => {
  state.needsToken = false;
  say("");
  if (!state.models.length) begin();
  else again(false);
});
$("opacity").addEventListener("input", () => first().apply({ opacity: Number($("opacity").value) / 100 }));
$("centre").addEventListener("input", () => first().apply({ centre: Number($("centre").value) }));
$("width").addEventListener("input", () => first().apply({ width: Number($("width").value) }));
for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", () => TOOLS[button.dataset.do]());
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) add(event.clipboardData.files); });
begin();
