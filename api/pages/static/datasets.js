// A new dataset: made first, then its archive sent in parts, each of which may be sent again.

import {request} from "./api.js";
import {onSubmit} from "./forms.js";
import "./live.js";

const PART = 4 * 1024 ** 2;
const TRIES = 5;

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

// From where it stopped: what the service has is asked for after every failure.
async function upload(id, file, tell) {
  let {uploaded_bytes: start} = await request("GET", `/v1/datasets/${id}`);
  if (start >= file.size) start = 0;
  let failures = 0;
  while (start < file.size) {
    const end = Math.min(start + PART, file.size);
    try {
      await request("PUT", `/v1/datasets/${id}/content`, file.slice(start, end), {
        headers: {"Content-Range": `bytes ${start}-${end - 1}/${file.size}`, "Content-Type": "application/octet-stream"},
      });
      start = end;
      failures = 0;
    } catch (error) {
      // A refusal stays one; a lost connection does not.
      const passing = error.status === undefined || error.status >= 500 || error.document.code === "upload_offset";
      if (!passing || (failures += 1) >= TRIES) throw error;
      await new Promise((done) => setTimeout(done, 500 * 2 ** failures));
      const dataset = await request("GET", `/v1/datasets/${id}`);
      if (!["pending", "uploading"].includes(dataset.state)) return;
      start = dataset.uploaded_bytes;
    }
    tell(start, file.size);
  }
}

async function send(form, id, file) {
  if (file.size === 0) throw new Error("The archive is empty: choose another file.");
  if (file.size > Number(form.dataset.maxBytes)) {
    throw new Error(`The archive has ${megabytes(file.size)}; this service takes ${megabytes(Number(form.dataset.maxBytes))} at most.`);
  }
  document.getElementById("upload").hidden = false;
  const bar = document.getElementById("upload-progress");
  const status = document.getElementById("upload-status");
  let spoken = -1;
  await upload(id, file, (sent, size) => {
    bar.value = sent / size;
    const tenth = Math.floor((10 * sent) / size);
    if (tenth > spoken) status.textContent = `${megabytes(sent)} of ${megabytes(size)} sent`;
    spoken = tenth;
  });
}

function specification({elements}) {
  const kind = elements.source.value;
  const wanted = {name: elements.name.value.trim(), source: {kind}};
  if (kind === "builtin") {
    wanted.source.name = "fashion_mnist";
    if (elements.subset.value) wanted.source.subset = Number(elements.subset.value);
  } else {
    if (kind === "url") wanted.source.url = elements.url.value.trim();
    if (kind === "s3") wanted.source.url = elements.place.value.trim();
    if (kind !== "upload" && elements.sha256.value) wanted.source.sha256 = elements.sha256.value.toLowerCase();
    if (elements.image_size.value) wanted.image_size = Number(elements.image_size.value);
  }
  if (elements.licence.value.trim()) wanted.licence = elements.licence.value.trim();
  return wanted;
}

const fresh = document.getElementById("new-dataset");

// What belongs to another source is not asked for, nor checked.
function choose() {
  const kind = fresh.elements.source.value;
  for (const element of fresh.querySelectorAll("[data-source]")) {
    element.hidden = !element.dataset.source.split(" ").includes(kind);
    for (const input of element.querySelectorAll("input")) input.disabled = element.hidden;
  }
  fresh.elements.url.required = kind === "url";
  fresh.elements.archive.required = kind === "upload";
  // Where no bucket was opened there is no field for one.
  if (fresh.elements.place) fresh.elements.place.required = kind === "s3";
}

fresh?.addEventListener("change", ({target}) => {
  if (target.name === "source") choose();
});
if (fresh !== null) {
  // One may have been chosen before this module came.
  choose();
  onSubmit(fresh, async () => {
    const {id} = await request("POST", "/v1/datasets", specification(fresh));
    const [file] = fresh.elements.archive.files;
    if (fresh.elements.source.value === "upload") {
      try {
        await send(fresh, id, file);
      } catch (error) {
        error.message += ` What has arrived is kept: go on at /datasets/${id}.`;
        throw error;
      }
    }
    location.assign(`/datasets/${id}`);
  });
}

const resumed = document.getElementById("resume-upload");
if (resumed !== null) {
  onSubmit(resumed, async () => {
    await send(resumed, resumed.dataset.dataset, resumed.elements.archive.files[0]);
    location.assign(`/datasets/${resumed.dataset.dataset}`);
  });
}
