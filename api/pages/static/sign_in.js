// A key is sent once; the answer sets a cookie, with which the page that was asked for is loaded again.

import {request} from "./api.js";

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

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const key = input.value.trim();
  const button = form.querySelector("button");
  refused.textContent = "";
  input.removeAttribute("aria-invalid");
  // Others cannot be in a header.
  if (!/^[\x20-\x7e]+$/.test(key)) {
    refuse("This is no API key: a character in it cannot be part of one.");
    return;
  }
  button.disabled = true;
  try {
    await request("POST", "/v1/session", undefined, {headers: {Authorization: `Bearer ${key}`}});
    again();
  } catch (error) {
    button.disabled = false;
    if (error.status === 401) refuse("This key is unknown, revoked or expired. Check it, or ask for another one.");
    else refused.textContent = error.message;
  }
});
