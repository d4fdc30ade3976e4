// Creation and rotation of API keys. The text of a new key is only on the page, until the user leaves it.

import {hideProblem, request, showProblem} from "./api.js";
import {onSubmit} from "./forms.js";
import {refresh} from "./live.js";

const issued = document.getElementById("issued");
const text = document.getElementById("issued-key");
const copied = document.getElementById("copied");
const fresh = document.getElementById("new-key");
const dialog = document.getElementById("rotate");

const seconds = (id) => Number(document.getElementById(id).value) || null;

async function issue(path, body) {
  const {name, key} = await request("POST", path, body);
  document.getElementById("issued-name").textContent = name;
  text.value = key;
  copied.textContent = "";
  issued.hidden = false;
  await refresh();
  issued.focus();
}

onSubmit(fresh, async () => {
  const scopes = [...fresh.querySelectorAll("input[name=scope]:checked")].map(({value}) => value);
  if (scopes.length === 0) throw new Error("Select at least one scope.");
  const name = fresh.querySelector("#name").value.trim();
  await issue("/v1/api-keys", {name, scopes, expires_in_seconds: seconds("expires")});
  fresh.reset();
  fresh.querySelector("button").disabled = false;
});

document.addEventListener("click", ({target}) => {
  const button = target.closest("button[data-rotate]");
  if (button === null) return;
  dialog.dataset.key = button.dataset.rotate;
  document.getElementById("rotate-name").textContent = button.dataset.name;
  // Escape would keep the last value.
  dialog.returnValue = "";
  dialog.showModal();
});

dialog.addEventListener("close", async () => {
  if (dialog.returnValue !== "rotate") return;
  const how = {overlap_seconds: Number(document.getElementById("overlap").value), expires_in_seconds: seconds("rotated-expires")};
  hideProblem();
  await issue(`/v1/api-keys/${dialog.dataset.key}/rotate`, how).catch(showProblem);
});

document.getElementById("copy").addEventListener("click", async () => {
  text.select();
  // The clipboard exists in secure contexts only, and internal services often use plain HTTP.
  const done = navigator.clipboard
    ? await navigator.clipboard.writeText(text.value).then(() => true, () => false)
    : document.execCommand("copy");
  copied.textContent = done ? "Copied" : "The key is selected: copy it with Ctrl+C.";
});
