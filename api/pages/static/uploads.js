// Uploads in parts, each of which can be retried.

import {request} from "./api.js";

const PART = 4 * 1024 ** 2;
const TRIES = 5;

function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

// Resumes: after every failure the service is asked how many bytes it has.
async function upload(resource, file, tell) {
  let {uploaded_bytes: start} = await request("GET", resource);
  if (start >= file.size) start = 0;
  let failures = 0;
  while (start < file.size) {
    const end = Math.min(start + PART, file.size);
    try {
      await request("PUT", `${resource}/content`, file.slice(start, end), {
        headers: {"Content-Range": `bytes ${start}-${end - 1}/${file.size}`, "Content-Type": "application/octet-stream"},
      });
      start = end;
      failures = 0;
    } catch (error) {
      // Rejections are final; lost connections are retried.
      const passing = error.status === undefined || error.status >= 500 || error.document.code === "upload_offset";
      if (!passing || (failures += 1) >= TRIES) throw error;
      await new Promise((done) => setTimeout(done, 500 * 2 ** failures));
      const found = await request("GET", resource);
      if (!["pending", "uploading"].includes(found.state)) return;
      start = found.uploaded_bytes;
    }
    tell(start, file.size);
  }
}

// `resource` is the path of a dataset or of weights; the form names the largest size and has the progress bar.
export async function send(form, resource, file) {
  if (file.size === 0) throw new Error("The file is empty: choose another one.");
  if (file.size > Number(form.dataset.maxBytes)) {
    throw new Error(`The file has ${megabytes(file.size)}, more than the limit of ${megabytes(Number(form.dataset.maxBytes))}: choose a smaller one.`);
  }
  document.getElementById("upload").hidden = false;
  const bar = document.getElementById("upload-progress");
  const status = document.getElementById("upload-status");
  let spoken = -1;
  await upload(resource, file, (sent, size) => {
    bar.value = sent / size;
    const tenth = Math.floor((10 * sent) / size);
    if (tenth > spoken) status.textContent = `${megabytes(sent)} of ${megabytes(size)} sent`;
    spoken = tenth;
  });
}
