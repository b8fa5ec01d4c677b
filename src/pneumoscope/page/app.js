// The page: files in, a worklist, one radiograph in view, beside each other for two models.
import { Viewer, colour, drawHeat, grayOf, heatPicture, newView, windowed } from "/page/viewer.js";
import { zip } from "/page/zip.js";

const $ = (id) => document.getElementById(id);
const AT_A_TIME = 2, LARGEST = 20e6;
const FIELDS = ["path", "label", "probability", "threshold", "model", "status", "reason", "bacterial", "prevalence", "image_sha256", "model_sha256"];

const state = { models: [], items: [], chosen: null, view: newView(), viewers: [], running: 0, stop: new AbortController(), samples: null };

// Talking to the service -----------------------------------------------------------------------------------

/** A request; throws an Error whose message is the service's sentence. */
async function ask(path, options = {}) {
  const headers = { ...options.headers, ...($("token").value ? { authorization: `Bearer ${$("token").value}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("expected an answer of pneumoscope, received none: is it still running?");
  }
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({ detail: `expected an answer, received HTTP ${response.status}` }));
  throw Object.assign(new Error(problem.detail), { status: response.status, prediction: problem.prediction });
}

/** One file judged by one model; waits where the service is full. */
async function judge(file, model, signal) {
  const body = new FormData();
  body.append("files", file, file.name);
  const query = new URLSearchParams({ model, heatmap: "json", threshold: $("point").value || "default" });
  if (!operatingPoints(model).includes(query.get("threshold"))) query.delete("threshold");
  for (;;) {
    try {
      const began = performance.now();
      const answer = await (await ask(`/v1/predictions?${query}`, { method: "POST", body, signal })).json();
      return { ...answer.predictions[0], ms: performance.now() - began };
    } catch (error) {
      if (error.prediction) return error.prediction;
      if (error.status !== 503) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000));
      signal.throwIfAborted();
    }
  }
}

const operatingPoints = (name) => Object.keys(state.models.find((model) => model.name === name)?.operating_points ?? {});
const chosenModels = () => [$("model").value, $("second").value].filter(Boolean);

// The worklist ---------------------------------------------------------------------------------------------

async function add(files) {
  const list = [...files].filter((file) => file.size > 0 || say(`${file.name} is empty and was left out.`));
  if (!list.length) return;
  for (const file of list) {
    const item = { file, name: file.name || "pasted.png", results: {}, error: "" };
    if (file.size > LARGEST) item.error = "expected a file of at most 20 MB, received more: save it smaller";
    state.items.push(item);
  }
  document.body.classList.add("working");
  $("worklist").hidden = false;
  state.chosen ??= state.items[0];
  work();
  draw();
}

/** Keep a few requests going until nothing is left to judge. */
function work() {
  if (state.stop.signal.aborted) state.stop = new AbortController();
  const { signal } = state.stop;
  while (state.running < AT_A_TIME) {
    const job = nextJob();
    if (!job) break;
    state.running++;
    job.item.busy = job.model;
    judge(job.item.file, job.model, signal)
      .then((result) => { job.item.results[job.model] = result; })
      .catch((error) => { if (error.name !== "AbortError") fail(job.item, error); })
      .finally(() => { job.item.busy = null; state.running--; if (!signal.aborted) work(); draw(); });
  }
}

function nextJob() {
  for (const item of [state.chosen, ...state.items]) {
    if (!item || item.busy || item.error || item.cancelled) continue;
    const model = chosenModels().find((name) => !item.results[name]);
    if (model) return { item, model };
  }
  return null;
}

function fail(item, error) {
  item.error = error.message;
  if (error.status === 401) {
    $("token-label").hidden = false;
    $("token").focus();
    item.error = "";
    item.cancelled = true;
  }
  say(`${item.name}: ${error.message}`);
}

function judgedBy(item, model = $("model").value) { return item.results[model]; }

function sorted() {
  const chance = (item) => judgedBy(item)?.probability ?? -1;
  return [...state.items].sort((a, b) => chance(b) - chance(a));
}

function draw() {
  const left = state.items.filter((item) => !item.error && !item.cancelled && chosenModels().some((name) => !item.results[name])).length;
  const done = state.items.length - left;
  $("progress").textContent = state.items.length ? `${done} of ${state.items.length} judged` : "";
  $("bar").max = Math.max(1, state.items.length);
  $("bar").value = done;
  $("cancel").hidden = !left;
  $("csv").disabled = !state.items.some((item) => judgedBy(item));
  $("overlays").disabled = !state.items.some((item) => judgedBy(item)?.heatmap);
  const focused = document.activeElement?.dataset?.number;
  $("rows").replaceChildren(...sorted().map(row));
  if (focused !== undefined) document.querySelector(`[data-number="${focused}"]`)?.focus();
  show();
}

function row(item) {
  const found = judgedBy(item);
  const line = document.createElement("tr");
  const open = document.createElement("button");
  Object.assign(open, { type: "button", textContent: item.name, title: item.name });
  open.dataset.number = String(state.items.indexOf(item));
  open.setAttribute("aria-pressed", String(item === state.chosen));
  open.addEventListener("click", () => { choose(item); });
  line.className = item === state.chosen ? "chosen" : "";
  const status = item.error ? "error" : found?.status ?? (item.cancelled ? "cancelled" : item.busy ? "working" : "waiting");
  const verdict = found?.label ? `${found.label}${status === "uncertain" ? ", uncertain" : ""}` : status;
  line.append(cell(open), cell(verdict, found?.label ?? status), cell(found?.probability == null ? "–" : found.probability.toFixed(3), "number"));
  return line;
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

// The radiograph in view -----------------------------------------------------------------------------------

async function imageOf(item) {
  item.image ??= (async () => {
    try {
      return grayOf(await createImageBitmap(item.file));
    } catch { // a DICOM file, or a PNG that the browser does not know: as the service reads it
      const response = await ask("/v1/renderings", { method: "POST", body: item.file, headers: { "content-type": "application/octet-stream" } });
      return grayOf(await createImageBitmap(await response.blob()));
    }
  })().catch(() => null);
  return item.image;
}

async function show() {
  const item = state.chosen;
  $("result").hidden = !item;
  if (!item) return;
  $("result-title").textContent = item.name;
  const models = chosenModels();
  if (state.viewers.map((one) => one.model).join() !== models.join()) build(models);
  for (const { model, panel } of state.viewers) fill(panel, item, model);
  const assumed = judgedBy(item)?.prevalence;
  $("prevalence").textContent = assumed ? `${Math.round(100 * assumed)} %` : "as many as in its training";
  const image = await imageOf(item);
  if (item !== state.chosen) return;
  for (const { model, viewer, panel } of state.viewers) {
    viewer.show(image, item.results[model]?.heatmap?.values);
    const what = item.results[model];
    viewer.canvas.setAttribute("aria-label", image ? `Radiograph ${item.name}, ${what?.label ?? "no verdict"}${what?.heatmap ? ", with heatmap" : ""}` : `No picture of ${item.name}`);
    panel.querySelector(".scale").hidden = !what?.heatmap;
  }
  for (const name of ["opacity"]) $(name).disabled = !models.some((model) => item.results[model]?.heatmap);
}

function build(models) {
  state.viewers.forEach(({ viewer }) => viewer.close());
  state.viewers = models.map((model) => {
    const panel = document.createElement("div");
    panel.className = "panel";
    panel.innerHTML = `<p class="verdict"><span class="label"></span> <span class="figure"></span> <span class="status"></span></p>
      <div class="chance" role="img"><span></span><i></i></div><p class="reason soft"></p>
      <div class="stage"><canvas tabindex="0" role="img" aria-describedby="keys"></canvas></div>
      <p class="scale"><span>0</span><canvas width="200" height="1" aria-hidden="true"></canvas><span>highest: raised the score most</span></p>`;
    const bar = panel.querySelector(".scale canvas").getContext("2d");
    for (let x = 0; x < 200; x++) { bar.fillStyle = `rgb(${colour(x / 199).join(" ")})`; bar.fillRect(x, 0, 1, 1); }
    return { model, panel, viewer: new Viewer(panel.querySelector(".stage canvas"), state.view, viewChanged) };
  });
  $("panels").replaceChildren(...state.viewers.map(({ panel }) => panel));
}

function fill(panel, item, model) {
  const found = item.results[model];
  const part = (name) => panel.querySelector(`.${name}`);
  part("label").textContent = found ? found.label ?? "Not judged" : item.error ? "Not judged" : item.cancelled ? "Cancelled" : "Judging …";
  part("label").className = `label ${found?.label ?? ""}`;
  const judged = found?.probability != null;
  part("figure").textContent = judged ? `probability of pneumonia ${found.probability.toFixed(3)}` : "";
  const status = item.error ? "error" : found?.status ?? "";
  part("status").textContent = status === "ok" ? "" : status;
  part("status").className = `status ${status}`;
  const chance = part("chance");
  chance.className = `chance ${found?.label ?? ""}`;
  chance.querySelector("span").style.width = judged ? `${100 * found.probability}%` : "0";
  chance.querySelector("i").style.left = found ? `${100 * found.threshold}%` : "50%";
  chance.querySelector("i").hidden = !judged;
  chance.setAttribute("aria-label", judged ? `${found.probability.toFixed(3)}; PNEUMONIA from ${found.threshold.toFixed(3)} on` : "no probability yet");
  const facts = [`${model}`];
  if (item.error || found?.reason) facts.unshift(item.error || found.reason);
  if (judged) facts.push(`PNEUMONIA from ${found.threshold.toFixed(3)} on`);
  if (found?.bacterial != null) facts.push(`if a pneumonia: bacterial ${Math.round(100 * found.bacterial)} %, viral ${Math.round(100 - 100 * found.bacterial)} %`);
  if (judged && !found.heatmap) facts.push("this model has no feature map, so no heatmap");
  if (found?.ms) facts.push(`${Math.round(found.ms)} ms`);
  part("reason").textContent = facts.join(" · ");
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
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = state.items.flatMap((item) => chosenModels().map((name) => item.results[name]).filter(Boolean));
  const lines = [FIELDS, ...rows.map((found) => FIELDS.map((name) => String(found[name] ?? "")))];
  save(new Blob([lines.map((line) => line.map(quoted).join(",") + "\n").join("")], { type: "text/csv" }), "pneumoscope.csv");
}

async function overlays() {
  const files = [], names = new Set();
  for (const item of state.items) {
    const found = judgedBy(item), image = found?.heatmap && (await imageOf(item));
    if (!image) continue;
    const canvas = windowed(image, newView()), context = canvas.getContext("2d");
    drawHeat(context, heatPicture(found.heatmap.values), 0, 0, image.width, image.height, state.view.opacity);
    const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
    const stem = item.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}._-]/gu, "_") || "overlay";
    let name = `${stem}.png`;
    for (let n = 2; names.has(name.toLowerCase()); n++) name = `${stem}-${n}.png`;
    names.add(name.toLowerCase());
    files.push({ name, bytes });
  }
  save(zip(files), "pneumoscope-overlays.zip");
}

// The card of a model --------------------------------------------------------------------------------------

async function card() {
  try {
    const model = await (await ask(`/v1/models/${encodeURIComponent($("model").value)}`)).json();
    $("card-title").textContent = model.name;
    const figure = (m) => (m ? `${m.value.toFixed(3)} (${m.low.toFixed(3)} to ${m.high.toFixed(3)}; n = ${m.n})` : "–");
    const { metrics = {}, contract } = model;
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

// Beginning ------------------------------------------------------------------------------------------------

function say(sentence) {
  $("message").textContent = sentence;
  $("message").hidden = !sentence;
}

async function sample() {
  try {
    state.samples ??= (await (await ask("/v1/samples")).json()).samples;
    const taken = new Set(state.items.map((item) => item.name));
    const free = state.samples.filter((name) => !taken.has(name));
    if (!free.length) return say("All bundled samples are in the list.");
    const name = free[(7 * state.items.length + 13) % free.length];
    const blob = await (await ask(`/v1/samples/${encodeURIComponent(name)}`)).blob();
    const item = new File([blob], name, { type: "image/jpeg" });
    await add([item]);
    choose(state.items.at(-1));
  } catch (error) {
    say(error.message);
  }
}

function points() {
  const kept = $("point").value;
  $("point").replaceChildren(...operatingPoints($("model").value).map((name) => new Option(name, name, false, name === kept)));
}

async function begin() {
  try {
    const { models } = await (await ask("/v1/models")).json();
    state.models = models;
    for (const id of ["model", "second"]) $(id).append(...models.map(({ name }) => new Option(name, name)));
    points();
    say("");
  } catch (error) {
    if (error.status === 401) $("token-label").hidden = false;
    say(error.message);
  }
}

$("choose").addEventListener("click", () => $("files").click());
$("files").addEventListener("change", () => { add($("files").files); $("files").value = ""; });
$("sample").addEventListener("click", sample);
$("cancel").addEventListener("click", () => {
  for (const item of state.items) if (chosenModels().some((name) => !item.results[name])) item.cancelled = true;
  state.stop.abort();
  draw();
});
$("clear").addEventListener("click", () => {
  state.stop.abort();
  Object.assign(state, { items: [], chosen: null });
  document.body.classList.remove("working");
  $("worklist").hidden = true;
  say("");
  draw();
});
$("csv").addEventListener("click", csv);
$("overlays").addEventListener("click", overlays);
$("card-button").addEventListener("click", card);
for (const id of ["model", "second", "point"]) {
  $(id).addEventListener("change", () => {
    if (id === "point") for (const item of state.items) item.results = {};
    if (id === "model") points();
    for (const item of state.items) item.cancelled = false;
    work();
    draw();
  });
}
$("settings").addEventListener("submit", (event) => event.preventDefault()); // Enter in the token's field
$("token").addEventListener("change", () => {
  for (const item of state.items) item.cancelled = false;
  state.models.length ? work() : begin();
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
