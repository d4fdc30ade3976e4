// New weights: created first, then their file is uploaded, or the service downloads them.

import {request} from "./api.js";
import {onSubmit} from "./forms.js";
import "./live.js";
import {send} from "./uploads.js";

function specification({elements}) {
  const kind = elements.source.value;
  const spec = {name: elements.name.value.trim(), source: {kind}};
  if (kind === "named") spec.source.name = elements.published.value;
  else {
    if (elements.licence.value.trim()) spec.licence = elements.licence.value.trim();
    if (elements.non_commercial.checked) spec.allow_non_commercial = true;
  }
  return spec;
}

const fresh = document.getElementById("new-weights");

// The name follows the source or file until the user types one.
function suggest() {
  const {elements} = fresh;
  if (elements.name.dataset.typed) return;
  const [file] = elements.file.files;
  elements.name.value = elements.source.value === "named" ? elements.published.value : (file?.name.replace(/\.safetensors$/, "") ?? "");
}

function choose() {
  const kind = fresh.elements.source.value;
  for (const element of fresh.querySelectorAll("[data-source]")) {
    element.hidden = element.dataset.source !== kind;
    for (const input of element.querySelectorAll("input, select")) input.disabled = element.hidden;
  }
  fresh.elements.file.required = kind === "upload";
  suggest();
}

if (fresh !== null) {
  fresh.elements.name.addEventListener("input", ({target}) => {
    target.dataset.typed = target.value;
  });
  fresh.addEventListener("change", ({target}) => {
    if (target.name === "source") choose();
    else suggest();
  });
  // A choice may have been made before this module loaded.
  choose();
  onSubmit(fresh, async () => {
    const {id} = await request("POST", "/v1/weights", specification(fresh));
    if (fresh.elements.source.value === "upload") {
      try {
        await send(fresh, `/v1/weights/${id}`, fresh.elements.file.files[0]);
      } catch (error) {
        error.message += ` Send the file again at /weights/${id}.`;
        throw error;
      }
    }
    location.assign(`/weights/${id}`);
  });
}

const resumed = document.getElementById("resume-upload");
if (resumed !== null) {
  onSubmit(resumed, async () => {
    await send(resumed, `/v1/weights/${resumed.dataset.weights}`, resumed.elements.file.files[0]);
    location.assign(`/weights/${resumed.dataset.weights}`);
  });
}
