// The key is sent once; the response sets a cookie, with which the requested page is reloaded.

import {request} from "./api.js";
import {FieldError, onSubmit} from "./forms.js";

const form = document.getElementById("sign-in");
const input = document.getElementById("key");
const refused = document.getElementById("key-refused");

const again = () => location.replace(location.pathname + location.search);

// Requests from other sites carry no cookie (SameSite=Strict); those from this page do.
if (form.hasAttribute("data-elsewhere")) again();

function refuse(message) {
  refused.textContent = message;
  input.setAttribute("aria-invalid", "true");
  input.select();
  input.focus();
}

onSubmit(
  form,
  async () => {
    const key = input.value.trim();
    refused.textContent = "";
    input.removeAttribute("aria-invalid");
    // Headers cannot hold other characters.
    if (!/^[\x20-\x7e]+$/.test(key)) throw new FieldError("/key", "Invalid API key: it contains a character that keys never have.");
    await request("POST", "/v1/session", undefined, {headers: {Authorization: `Bearer ${key}`}});
    again();
  },
  (error) => {
    if (error.status === 401) refuse("This key is unknown, revoked or expired. Check it, or use another one.");
    else if (error instanceof FieldError) refuse(error.message);
    else refused.textContent = error.message;
  },
);
