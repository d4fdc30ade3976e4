// A new dataset: made first, then its archive sent in parts, each of which may be sent again.

import {hideProblem, request, showProblem} from "./api.js";
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
  } else if (elements.image_size.value) {
    wanted.image_size = Number(elements.image_size.value);
  }
  if (elements.licence.value.trim()) wanted.licence = elements.licence.value.trim();
  return wanted;
}

async function working(form, work) {
  const button = form.querySelector("button");
  button.disabled = true;
  hideProblem();
  try {
    location.assign(`/datasets/${await work()}`);
  } catch (error) {
    showProblem(error);
    button.disabled = false;
  }
}

const fresh = document.getElementById("new-dataset");
fresh?.addEventListener("change", ({target}) => {
  if (target.name !== "source") return;
  for (const element of fresh.querySelectorAll("[data-source]")) element.hidden = element.dataset.source !== target.value;
});
fresh?.addEventListener("submit", (event) => {
  event.preventDefault();
  working(fresh, async () => {
    const wanted = specification(fresh);
    const [file] = fresh.elements.archive.files;
    if (wanted.source.kind === "upload" && file === undefined) throw new Error("Choose the archive of its images first.");
    const {id} = await request("POST", "/v1/datasets", wanted);
    if (wanted.source.kind === "upload") {
      try {
        await send(fresh, id, file);
      } catch (error) {
        error.message += ` What has arrived is kept: go on at /datasets/${id}.`;
        throw error;
      }
    }
    return id;
  });
});

const resumed = document.getElementById("resume-upload");
resumed?.addEventListener("submit", (event) => {
  event.preventDefault();
  working(resumed, async () => {
    await send(resumed, resumed.dataset.dataset, resumed.elements.archive.files[0]);
    return resumed.dataset.dataset;
  });
});
