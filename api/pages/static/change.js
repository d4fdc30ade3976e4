// Changes to the name, labels, priority or limits of a search; only changed inputs are sent.

import {request, showProblem} from "./api.js";
import {clear, complain, labels, onSubmit} from "./forms.js";

const form = document.getElementById("change");

function changes() {
  const found = {};
  for (const input of form.querySelectorAll("[data-pointer]")) {
    if (input.value === input.defaultValue) continue;
    const [first, second] = input.dataset.pointer.slice(1).split("/");
    const value = input.value.trim();
    if (first === "labels") found.labels = {...gone(input.defaultValue), ...labels(value)};
    else if (first === "limits") (found.limits ??= {})[second] = value === "" ? null : Number(value);
    else found[first] = input.type === "number" ? Number(value) : value;
  }
  return found;
}

function gone(before) {
  return Object.fromEntries(Object.keys(labels(before)).map((name) => [name, null]));
}

async function send() {
  clear(form);
  await request("PATCH", form.dataset.search, changes());
  location.reload();
}

onSubmit(form, send, (error) => {
  complain(form, error);
  showProblem(error);
  form.querySelector("[aria-invalid]")?.focus();
});
