// Requests to the API. A problem is an Error with the document that the service sent.

export class Problem extends Error {
  constructor(document, status) {
    super(document.detail || document.title || `the service returned status ${status}`);
    this.document = document;
    this.status = status;
  }
}

export async function request(method, path, body, options = {}) {
  const headers = {Accept: "application/json", ...options.headers};
  if (method === "POST") headers["Idempotency-Key"] = randomKey();
  if (body !== undefined && !(body instanceof Blob)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const response = await fetch(path, {method, headers, body, signal: options.signal, credentials: "same-origin"});
  if (!response.ok) {
    const document = await response.json().catch(() => ({}));
    if (response.status === 401) document.detail = "Your session has ended: reload the page and sign in again.";
    throw new Problem(document, response.status);
  }
  return response.status === 204 ? null : response.json();
}

// randomUUID exists in secure contexts only, and internal services often use plain HTTP.
function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function showProblem(error) {
  const place = document.getElementById("problem");
  place.textContent = error.message;
  place.hidden = false;
  place.scrollIntoView({block: "nearest"});
}

export function hideProblem() {
  document.getElementById("problem").hidden = true;
}
