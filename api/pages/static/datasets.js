// A new dataset: created first, then its archive is uploaded.

import {request} from "./api.js";
import {onSubmit} from "./forms.js";
import "./live.js";
import {send} from "./uploads.js";

function specification({elements}) {
  const kind = elements.source.value;
  const spec = {name: elements.name.value.trim(), source: {kind}};
  if (kind === "builtin") {
    spec.source.name = "fashion_mnist";
    if (elements.subset.value) spec.source.subset = Number(elements.subset.value);
  } else {
    if (kind === "url") spec.source.url = elements.url.value.trim();
    if (kind === "s3") spec.source.url = elements.place.value.trim();
    if (kind !== "upload" && elements.sha256.value) spec.source.sha256 = elements.sha256.value.toLowerCase();
    if (elements.image_size.value) spec.image_size = Number(elements.image_size.value);
  }
  if (elements.licence.value.trim()) spec.licence = elements.licence.value.trim();
  return spec;
}

const fresh = document.getElementById("new-dataset");

// Inputs of other sources are hidden and not validated.
function choose() {
  const kind = fresh.elements.source.value;
  for (const element of fresh.querySelectorAll("[data-source]")) {
    element.hidden = !element.dataset.source.split(" ").includes(kind);
    for (const input of element.querySelectorAll("input")) input.disabled = element.hidden;
  }
  fresh.elements.url.required = kind === "url";
  fresh.elements.archive.required = kind === "upload";
  // The field is absent if no bucket is allowed.
  if (fresh.elements.place) fresh.elements.place.required = kind === "s3";
}

fresh?.addEventListener("change", ({target}) => {
  if (target.name === "source") choose();
});
if (fresh !== null) {
  // A choice may have been made before this module loaded.
  choose();
  onSubmit(fresh, async () => {
    const {id} = await request("POST", "/v1/datasets", specification(fresh));
    const [file] = fresh.elements.archive.files;
    if (fresh.elements.source.value === "upload") {
      try {
        await send(fresh, `/v1/datasets/${id}`, file);
      } catch (error) {
        error.message += ` The uploaded part is kept: continue at /datasets/${id}.`;
        throw error;
      }
    }
    location.assign(`/datasets/${id}`);
  });
}

const resumed = document.getElementById("resume-upload");
if (resumed !== null) {
  onSubmit(resumed, async () => {
    await send(resumed, `/v1/datasets/${resumed.dataset.dataset}`, resumed.elements.archive.files[0]);
    location.assign(`/datasets/${resumed.dataset.dataset}`);
  });
}
