// The form of a new search. Every input says by `data-pointer` where its value belongs in the body; a value that is the
// default is left out. Problems of the API name such pointers, so they appear at their inputs.

import {hideProblem, request, showProblem} from "./api.js";
import {parseQuantity, quantity} from "./charts.js";

const PAUSE = 400;
const form = document.getElementById("search");
const result = document.getElementById("estimate-result");
const constraints = document.getElementById("constraints");
let pending = null;
let timer = null;

class FieldError extends Error {
  constructor(pointer, message) {
    super(message);
    this.pointer = pointer;
  }
}

function body() {
  const document_ = {method: {kind: form.dataset.kind}};
  for (const input of form.querySelectorAll("[data-pointer][data-kind]")) {
    if (input.closest("[hidden]")) continue;
    const value = valueOf(input);
    if (value !== undefined) put(document_, input.dataset.pointer, value);
  }
  // A group that was opened and left at its defaults is still asked for.
  for (const group of form.querySelectorAll("[data-optional]")) {
    if (group.querySelector(".opens").checked) put(document_, group.dataset.optional, {});
  }
  document_.name = form.querySelector("#name").value.trim();
  document_.dataset_id = form.querySelector("#dataset-id").value;
  document_.seed = Number(form.querySelector("#seed").value || 0);
  document_.priority = Number(form.querySelector("#priority").value || 0);
  document_.labels = labels(form.querySelector("#labels").value);
  document_.objectives = [{metric: "selection_top1"}, ...[...form.querySelectorAll("#objectives input:checked")].map(({value}) => metric(value))];
  document_.constraints = [...constraints.children].map((row, index) => {
    const value = parseQuantity(row.querySelector(".value").value);
    if (Number.isNaN(value)) throw new FieldError(`/constraints/${index}`, "Give a positive number such as 5000000, 5M or 300k.");
    return {...metric(row.querySelector(".metric").value), op: "<=", value};
  });
  return document_;
}

function valueOf(input) {
  const {kind, pointer} = input.dataset;
  if (kind === "choices") {
    const chosen = [...input.querySelectorAll("input:checked")].map(({value}) => JSON.parse(value));
    return JSON.stringify(chosen) === input.dataset.default.replaceAll(", ", ",") ? undefined : chosen;
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
      if (numbers.some(Number.isNaN)) throw new FieldError(pointer, "Give numbers with commas between them.");
      return numbers;
    }
    case "json":
      try {
        return JSON.parse(text);
      } catch {
        throw new FieldError(pointer, "This is no JSON.");
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

function labels(text) {
  const pairs = text.split(",").map((each) => each.trim()).filter(Boolean).map((each) => each.split("="));
  const wrong = pairs.find((pair) => pair.length !== 2);
  if (wrong) throw new FieldError("/labels", `Write ${wrong.join("=")} as name=value.`);
  return Object.fromEntries(pairs.map(([name, value]) => [name.trim(), value.trim()]));
}

// -- problems at their inputs

function clear() {
  hideProblem();
  for (const message of form.querySelectorAll(".message")) message.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-errormessage");
  }
}

// An array is one input, so its items' problems are the input's.
function place(pointer) {
  const constraint = /^\/constraints\/(\d+)/.exec(pointer);
  if (constraint) return constraints.children[Number(constraint[1])]?.querySelector(".value");
  for (let path = pointer; path; path = path.slice(0, path.lastIndexOf("/"))) {
    const found = form.querySelector(`[data-pointer="${CSS.escape(path)}"], [data-optional="${CSS.escape(path)}"]`);
    if (found) return found;
  }
  return null;
}

function complain(errors) {
  let count = 0;
  for (const {pointer, detail} of errors) {
    const input = place(pointer ?? "");
    if (!input) continue;
    const message = document.createElement("p");
    message.className = "message";
    message.id = `message-${(count += 1)}`;
    message.textContent = detail;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-errormessage", message.id);
    if (input.tagName === "FIELDSET") input.append(message);
    else (input.closest(".field, .constraint") ?? input.parentElement).append(message);
  }
}

// -- the estimate

function soon() {
  clearTimeout(timer);
  timer = setTimeout(estimate, PAUSE);
}

async function estimate() {
  pending?.abort();
  pending = new AbortController();
  clear();
  try {
    const wanted = body();
    if (!wanted.dataset_id) return;
    tell(await request("POST", "/v1/searches/estimate", {...wanted, name: wanted.name || "estimate"}, {signal: pending.signal}));
  } catch (error) {
    if (error.name === "AbortError") return;
    refuse(error);
  }
}

function refuse(error) {
  if (error instanceof FieldError) complain([{pointer: error.pointer, detail: error.message}]);
  else if (error.document) complain(error.document.errors ?? []);
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
  if (seconds === null) return "unknown: no search like it has finished yet";
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
  add("Networks that it may find", found.configurations.toLocaleString("en"));
  add("That meet the constraints", found.feasible.toLocaleString("en"));
  const names = {macs: "MACs", params: "Parameters", peak_activation_bytes: "Peak activation memory"};
  for (const [name, title] of Object.entries(names)) {
    if (found.cost[name]) add(title, `${quantity(found.cost[name].min)} to ${quantity(found.cost[name].max)}${name.endsWith("bytes") ? " bytes" : ""}`);
  }
  for (const [device, known] of Object.entries(found.latency)) {
    add(`Latency on ${device}`, known.measured ? `${known.min_ms} to ${known.max_ms} ms, of ${known.measured} networks; it measures the others` : "unknown: it measures first");
  }
  add("Device time", duration(found.expected_seconds));
  if (found.based_on) add("From earlier searches", String(found.based_on));
  result.replaceChildren(list);
}

// -- what a person does

form.addEventListener("input", soon);
form.addEventListener("change", (event) => {
  if (event.target.classList.contains("opens")) {
    event.target.closest("fieldset").querySelector(":scope > .fields").hidden = !event.target.checked;
  }
  soon();
});

document.getElementById("add-constraint").addEventListener("click", () => {
  constraints.append(document.getElementById("constraint").content.cloneNode(true));
  constraints.lastElementChild.querySelector("select").focus();
});

constraints.addEventListener("click", (event) => {
  if (!event.target.classList.contains("remove")) return;
  event.target.closest(".constraint").remove();
  document.getElementById("add-constraint").focus();
  soon();
});

const startFrom = document.getElementById("start-from");

function startAgain(changed) {
  const {elements} = startFrom;
  // A preset is of one method.
  if (changed === elements.method) elements.preset.value = "";
  elements.dataset.value = form.querySelector("#dataset-id").value;
  startFrom.requestSubmit();
}

startFrom.addEventListener("change", (event) => startAgain(event.target));
// What was chosen before this module ran.
const early = [...startFrom.querySelectorAll("select")].find(({options, selectedIndex}) => {
  const first = [...options].findIndex((option) => option.defaultSelected);
  return selectedIndex !== Math.max(first, 0);
});
if (early) startAgain(early);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  clearTimeout(timer);
  pending?.abort();
  clear();
  const button = document.getElementById("submit");
  button.disabled = true;
  try {
    const made = await request("POST", "/v1/searches", body());
    location.assign(`/searches/${made.id}`);
  } catch (error) {
    button.disabled = false;
    refuse(error);
    showProblem(error);
    form.querySelector("[aria-invalid]")?.focus();
  }
});

estimate();
