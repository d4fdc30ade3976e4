// Live parts of a page: every element with `data-live` and an id is fetched again and replaced, every few seconds while
// one of them has `data-active`. Buttons that call the API are handled here too.

import {hideProblem, request, showProblem} from "./api.js";

const SECONDS = 3;

export async function refresh(path = location.href) {
  const response = await fetch(path, {headers: {Accept: "text/html"}, credentials: "same-origin"});
  // The session has ended: the reload shows the sign-in page.
  if (response.status === 401) location.reload();
  if (!response.ok) return null;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const fresh of page.querySelectorAll("[data-live][id]")) swap(document.getElementById(fresh.id), fresh);
  return page;
}

// The state of the old part is kept: checked and opened elements, focus and scroll positions.
export function swap(old, fresh) {
  if (old === null || old.isEqualNode(fresh)) return;
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const ticked = [...old.querySelectorAll("input:checked[id]")].map((input) => input.id);
  const folds = new Map([...old.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
  const scrolled = [...old.querySelectorAll("[aria-label]")].map((each) => [each.getAttribute("aria-label"), each.scrollLeft, each.scrollTop]);
  const kept = document.importNode(fresh, true);
  for (const id of ticked) kept.querySelector(`#${CSS.escape(id)}`)?.setAttribute("checked", "");
  for (const [id, open] of folds) kept.querySelector(`#${CSS.escape(id)}`)?.toggleAttribute("open", open);
  old.replaceWith(kept);
  for (const [label, left, top] of scrolled) {
    if (left || top) kept.querySelector(`[aria-label="${CSS.escape(label)}"]`)?.scrollTo(left, top);
  }
  if (focused) document.getElementById(focused)?.focus({preventScroll: true});
}

export function every(seconds, work) {
  setTimeout(async () => {
    if (!document.hidden) await work().catch(() => {});
    every(seconds, work);
  }, 1000 * seconds);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post], button[data-delete]");
  if (button === null) return;
  if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
  button.disabled = true;
  hideProblem();
  try {
    if (button.dataset.post) {
      await request("POST", button.dataset.post, button.dataset.body ? JSON.parse(button.dataset.body) : undefined);
    } else {
      await request("DELETE", button.dataset.delete);
    }
    if (button.dataset.after) location.assign(button.dataset.after);
    else await refresh();
  } catch (error) {
    showProblem(error);
  } finally {
    button.disabled = false;
  }
});

every(SECONDS, async () => {
  if (document.querySelector("[data-live][data-active]")) await refresh();
});
