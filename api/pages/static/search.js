// The page of a search: it follows the search's events and updates its parts without a reload.

import {showProblem} from "./api.js";
import {setUpCurves, updateCurves} from "./curves.js";
import {setUpFront} from "./front.js";
import {every, refresh} from "./live.js";
import {setUpScales} from "./scales.js";

const SECONDS = 2;
const page = document.getElementById("search");
let busy = false;
let again = false;

const isOver = () => document.getElementById("summary").hasAttribute("data-over");
const axis = () => document.getElementById("axis").value;

async function update() {
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  try {
    do {
      again = false;
      const announced = await refresh(page.dataset.progress);
      if (announced !== null) announce(announced.getElementById("announcement").textContent);
      const {sequence} = document.getElementById("summary").dataset;
      if (document.getElementById("front").dataset.sequence !== sequence) await updateFront();
    } while (again);
    setUpScales();
    await updateCurves();
  } finally {
    busy = false;
  }
}

function announce(text) {
  const place = document.getElementById("announcement");
  if (place.textContent !== text) place.textContent = text;
}

async function updateFront() {
  const chosen = axis();
  const response = await fetch(`${page.dataset.front}?x=${encodeURIComponent(chosen)}`, {credentials: "same-origin"});
  if (!response.ok) throw new Error("The front could not be read: reload the page.");
  const text = await response.text();
  // Another axis was chosen: its response is on the way.
  if (axis() !== chosen) return;
  const fresh = new DOMParser().parseFromString(text, "text/html").getElementById("front");
  const old = document.getElementById("front");
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...old.querySelectorAll("details[open][id]")].map((each) => each.id);
  // A budget has the unit of its axis.
  const budget = old.dataset.drawnOver === chosen ? old.querySelector("#budget").value : null;
  const dominated = old.querySelector("#dominated").checked;
  old.replaceWith(document.importNode(fresh, true));
  if (budget !== null) document.getElementById("budget").value = budget;
  document.getElementById("dominated").checked = dominated;
  startFront();
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({preventScroll: true});
}

function startFront() {
  setUpFront();
  document.getElementById("axis").addEventListener("change", () => updateFront().catch(showProblem));
}

function follow() {
  const source = new EventSource(`${page.dataset.events}?cursor=${page.dataset.after}`);
  let waiting = null;
  const heard = () => {
    // The end of a trial causes several events at once.
    waiting ??= setTimeout(async () => {
      waiting = null;
      await update().catch(() => {});
      if (isOver()) source.close();
    }, 150);
  };
  for (const type of page.dataset.types.split(" ")) source.addEventListener(type, heard);
}

startFront();
// Another axis may have been chosen before this module loaded.
if (axis() !== document.getElementById("front").dataset.drawnOver) updateFront().catch(showProblem);
setUpScales();
setUpCurves();
if (!isOver()) {
  follow();
  // Progress, curves and remaining time change without events.
  every(SECONDS, async () => {
    if (!isOver()) await update();
  });
}
