// Forms sent by their modules, with problems shown at their inputs: `data-pointer` is the JSON pointer of an input's value
// in the request body, which problems of the API name.

import {hideProblem, showProblem} from "./api.js";

export class FieldError extends Error {
  constructor(pointer, message) {
    super(message);
    this.pointer = pointer;
  }

  get document() {
    return {errors: [{pointer: this.pointer, detail: this.message}]};
  }
}

// The button is disabled until the handler is installed, so that no submission is lost. It is disabled again while `send`
// runs and, on success, until the next page loads.
export function onSubmit(form, send, refuse = showProblem) {
  const button = form.querySelector("button:not([type=button])");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    hideProblem();
    button.disabled = true;
    try {
      await send();
    } catch (error) {
      button.disabled = false;
      refuse(error);
    }
  });
  // After navigating back.
  addEventListener("pageshow", ({persisted}) => {
    if (persisted) button.disabled = false;
  });
  button.disabled = false;
}

// A label: name=value. Values with a comma and names with = are JSON strings.
const QUOTED = String.raw`"(?:[^"\\]|\\.)*"`;
const LABEL = new RegExp(String.raw`[\s,]*(${QUOTED}|[^\s",=][^,=]*?)\s*=\s*(${QUOTED}|[^\s",][^,]*?|)\s*(?:,|$)`, "y");

export function labels(text) {
  const pairs = [];
  for (let at = 0; /[^\s,]/.test(text.slice(at)); at = LABEL.lastIndex) {
    LABEL.lastIndex = at;
    const pair = LABEL.exec(text)?.slice(1).map(unquoted) ?? [undefined];
    if (pair.includes(undefined)) {
      const [wrong] = text.slice(at).match(/[^\s,][^,]*/);
      throw new FieldError("/labels", `Invalid label ${wrong.trim()}: write name=value, and quote values with a comma: name="a, b".`);
    }
    pairs.push(pair);
  }
  return Object.fromEntries(pairs);
}

function unquoted(text) {
  if (!text.startsWith('"')) return text;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// An array is one input, so problems of its items are shown at it.
export function place(form, pointer) {
  for (let path = pointer; path; path = path.slice(0, path.lastIndexOf("/"))) {
    const found = form.querySelector(`[data-pointer="${CSS.escape(path)}"], [data-optional="${CSS.escape(path)}"]`);
    if (found) return found;
  }
  return null;
}

export function clear(form) {
  hideProblem();
  for (const message of form.querySelectorAll(".message")) message.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-errormessage");
  }
}

export function complain(form, {document: about}, find = (pointer) => place(form, pointer)) {
  for (const [index, {pointer, detail}] of (about?.errors ?? []).entries()) {
    const input = find(pointer ?? "");
    if (!input) continue;
    const message = document.createElement("p");
    message.className = "message";
    message.id = `${form.id}-message-${index}`;
    message.textContent = detail;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-errormessage", message.id);
    if (input.tagName === "FIELDSET") input.append(message);
    else (input.closest(".field, .constraint") ?? input.parentElement).append(message);
  }
}
