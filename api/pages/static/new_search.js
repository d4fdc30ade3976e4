// The form of a new search. `data-pointer` is the JSON pointer of an input's value in the body; defaults are left out.
// Problems of the API name these pointers, so they appear at their inputs.

import {request, showProblem} from "./api.js";
import {clear, complain, FieldError, labels, onSubmit, place} from "./forms.js";
import {cost, parseQuantity} from "./numbers.js";

const PAUSE = 400;
const form = document.getElementById("search");
const result = document.getElementById("estimate-result");
const constraints = document.getElementById("constraints");
// Null for methods that cannot start from trained weights.
const start = document.getElementById("start");
let pending = null;
let timer = null;

function body() {
  const document_ = {method: {kind: form.dataset.kind}};
  for (const input of form.querySelectorAll("[data-pointer][data-kind]")) {
    if (input.closest("[hidden]")) continue;
    const value = valueOf(input);
    if (value !== undefined) put(document_, input.dataset.pointer, value);
  }
  // A group that was enabled and left at its defaults is still sent.
  for (const group of form.querySelectorAll("[data-optional]")) {
    if (group.querySelector(".opens").checked) put(document_, group.dataset.optional, {});
  }
  if (start?.value) document_.method.start = JSON.parse(start.value);
  document_.name = form.querySelector("#name").value.trim();
  document_.dataset_id = form.querySelector("#dataset-id").value;
  document_.seed = Number(form.querySelector("#seed").value || 0);
  document_.priority = Number(form.querySelector("#priority").value || 0);
  document_.labels = labels(form.querySelector("#labels").value);
  document_.objectives = [{metric: "selection_top1"}, ...[...form.querySelectorAll("#objectives input:checked")].map(({value}) => metric(value))];
  document_.constraints = [...constraints.children].map((row, index) => {
    const value = parseQuantity(row.querySelector(".value").value);
    if (Number.isNaN(value)) throw new FieldError(`/constraints/${index}`, "Invalid quantity: enter a positive number such as 5000000, 5M or 300k.");
    return {...metric(row.querySelector(".metric").value), op: "<=", value};
  });
  return document_;
}

function valueOf(input) {
  const {kind, pointer} = input.dataset;
  if (kind === "choices") {
    const chosen = [...input.querySelectorAll("input:checked")].map(({value}) => JSON.parse(value));
    if (chosen.length === 0 && input.dataset.default === "null") return undefined;
    return JSON.stringify(chosen) === input.dataset.default.replaceAll(", ", ",") ? undefined : chosen;
  }
  if (kind === "rows") {
    const rows = [...input.querySelector(".rows").children].map((row) => {
      const filled = [...row.querySelectorAll("[data-name]")].filter(({value}) => value !== "");
      return Object.fromEntries(filled.map(({dataset, value}) => [dataset.name, Number(value)]));
    });
    return rows.length === 0 ? undefined : rows;
  }
  const text = kind === "boolean" ? String(input.checked) : input.value.trim();
  if (kind === "choice" ? text === input.dataset.default : text === input.dataset.default || text === "") return undefined;
  switch (kind) {
    case "boolean":
      return input.checked;
    case "choice":
      return JSON.parse(text);
    case "number":
    case "integer":
      return Number(text);
    case "list": {
      const items = text.split(/[\s,]+/).filter(Boolean);
      if (input.dataset.items === "string") return items;
      const numbers = items.map(parseNumber);
      if (numbers.some(Number.isNaN)) throw new FieldError(pointer, "Not a list of numbers: separate numbers with commas.");
      return numbers;
    }
    case "json":
      try {
        return JSON.parse(text);
      } catch {
        throw new FieldError(pointer, "Invalid JSON: check quotes, commas and brackets.");
      }
    default:
      return text;
  }
}

function parseNumber(text) {
  const plain = Number(text);
  return Number.isNaN(plain) ? parseQuantity(text) : plain;
}

function put(target, pointer, value) {
  const names = pointer.slice(1).split("/");
  const last = names.pop();
  for (const name of names) target = target[name] ??= {};
  if (value !== null && typeof value === "object" && !Array.isArray(value)) target[last] ??= value;
  else target[last] = value;
}

function metric(value) {
  const [name, device] = value.split(":");
  return device === undefined ? {metric: name} : {metric: name, device};
}

function inputOf(pointer) {
  const constraint = /^\/constraints\/(\d+)/.exec(pointer);
  return constraint ? constraints.children[Number(constraint[1])]?.querySelector(".value") : place(form, pointer);
}

// -- the estimate

function soon() {
  clearTimeout(timer);
  timer = setTimeout(estimate, PAUSE);
}

async function estimate() {
  pending?.abort();
  if (start?.selectedOptions[0].dataset.fetching) return;
  pending = new AbortController();
  clear(form);
  try {
    const spec = body();
    if (!spec.dataset_id) return;
    tell(await request("POST", "/v1/searches/estimate", {...spec, name: spec.name || "estimate"}, {signal: pending.signal}));
  } catch (error) {
    if (error.name === "AbortError") return;
    refuse(error);
  }
}

function refuse(error) {
  complain(form, error, inputOf);
  const message = document.createElement("div");
  message.className = "problem";
  const problems = error.document?.errors?.length ? error.document.errors : [{detail: error.message}];
  for (const {pointer, detail} of problems) {
    const line = document.createElement("p");
    line.textContent = pointer ? `${pointer.slice(1).replaceAll("/", ", ").replaceAll("_", " ")}: ${detail}` : detail;
    message.append(line);
  }
  result.replaceChildren(message);
}

function duration(seconds) {
  if (seconds === null) return "unknown: no similar search has finished yet";
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `about ${Math.max(1, Math.round(seconds))} s`;
  return minutes < 60 ? `about ${minutes} min` : `about ${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

function tell(found) {
  const list = document.createElement("dl");
  const add = (name, ...values) => {
    const title = document.createElement("dt");
    title.textContent = name;
    list.append(title, ...values.map((value) => Object.assign(document.createElement("dd"), {textContent: value})));
  };
  add("Networks in the search space", found.configurations.toLocaleString("en"));
  add("Within the constraints", found.feasible.toLocaleString("en"));
  const names = {macs: "MACs", params: "Parameters", peak_activation_bytes: "Peak activation memory"};
  for (const [name, title] of Object.entries(names)) {
    if (found.cost[name]) add(title, `${cost(found.cost[name].min, name)} to ${cost(found.cost[name].max, name)}`);
  }
  for (const [device, known] of Object.entries(found.latency)) {
    add(`Latency on ${device}`, known.measured ? `${cost(known.min_ms, "latency_ms")} to ${cost(known.max_ms, "latency_ms")}, over ${known.measured} networks; the search measures the others` : "unknown: the search measures it first");
  }
  add("Device time", duration(found.expected_seconds));
  if (found.based_on) add("Based on", found.based_on === 1 ? "one earlier search" : `${found.based_on} earlier searches`);
  result.replaceChildren(list);
}

// -- published weights, which the service fetches when they are chosen

async function fetchWeights(option) {
  const help = document.getElementById("start-help");
  const name = option.dataset.source;
  delete option.dataset.source;
  option.dataset.fetching = name;
  help.textContent = `Fetching ${name} …`;
  try {
    let weights = await request("POST", "/v1/weights", {name, source: {kind: "named", name}});
    option.value = JSON.stringify({weights: weights.id});
    while (!["ready", "rejected"].includes(weights.state)) {
      await new Promise((done) => setTimeout(done, 1000));
      weights = await request("GET", `/v1/weights/${weights.id}`);
    }
    help.textContent = weights.state === "ready" ? `${name} is ready.` : `${name}: ${weights.error.detail}`;
  } catch (error) {
    help.textContent = error.message;
    option.dataset.source = name;
  } finally {
    delete option.dataset.fetching;
    soon();
  }
}

start?.addEventListener("change", () => {
  const [option] = start.selectedOptions;
  if (option.dataset.source) fetchWeights(option);
});

// -- user input

form.addEventListener("input", soon);
form.addEventListener("change", (event) => {
  if (event.target.classList.contains("opens")) unfold(event.target);
  soon();
});

function unfold(opens) {
  opens.closest("fieldset").querySelector(":scope > .fields").hidden = !opens.checked;
}

form.addEventListener("click", ({target}) => {
  const group = target.closest("fieldset");
  if (target.classList.contains("add")) {
    const rows = group.querySelector(".rows");
    rows.append(group.querySelector("template").content.cloneNode(true));
    rows.lastElementChild.querySelector("select, input").focus();
  } else if (target.classList.contains("remove")) {
    target.closest(".constraint").remove();
    group.querySelector(".add").focus();
    soon();
  }
});

const startFrom = document.getElementById("start-from");

function startAgain(changed) {
  const {elements} = startFrom;
  // A preset is of one method.
  if (changed === elements.method) elements.preset.value = "";
  elements.dataset.value = form.querySelector("#dataset-id").value;
  if (start) elements.weights.value = start.value ? (JSON.parse(start.value).weights ?? "") : "";
  startFrom.requestSubmit();
}

startFrom.addEventListener("change", (event) => startAgain(event.target));
// Choices made before this module loaded.
const early = [...startFrom.querySelectorAll("select")].find(({options, selectedIndex}) => {
  const first = [...options].findIndex((option) => option.defaultSelected);
  return selectedIndex !== Math.max(first, 0);
});
if (early) startAgain(early);

async function submit() {
  clearTimeout(timer);
  pending?.abort();
  clear(form);
  const made = await request("POST", "/v1/searches", body());
  location.assign(`/searches/${made.id}`);
}

onSubmit(form, submit, (error) => {
  refuse(error);
  showProblem(error);
  form.querySelector("[aria-invalid]")?.focus();
});

// Boxes checked before this module loaded.
for (const opens of form.querySelectorAll(".opens")) unfold(opens);
estimate();
