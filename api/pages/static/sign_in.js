// A key is sent once; the answer sets a cookie, with which the page that was asked for is loaded again.

import {request} from "./api.js";
import {FieldError, onSubmit} from "./forms.js";

const form = document.getElementById("sign-in");
const input = document.getElementById("key");
const refused = document.getElementById("key-refused");

const again = () => location.replace(location.pathname + location.search);

// The cookie does not come along from other sites (SameSite=Strict). From this page it does.
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
    // Others cannot be in a header.
    if (!/^[\x20-\x7e]+$/.test(key)) throw new FieldError("/key", "This is no API key: a character in it cannot be part of one.");
    await request("POST", "/v1/session", undefined, {headers: {Authorization: `Bearer ${key}`}});
    again();
  },
  (error) => {
    if (error.status === 401) refuse("This key is unknown, revoked or expired. Check it, or ask for another one.");
    else if (error instanceof FieldError) refuse(error.message);
    else refused.textContent = error.message;
  },
);
