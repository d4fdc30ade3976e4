// The page of a search: it follows the search's events and updates its parts without a reload.

import {setUpCurves, updateCurves} from "./curves.js";
import {startFront, updateFront} from "./front.js";
import {every, refresh} from "./live.js";
import {setUpScales} from "./scales.js";

const SECONDS = 2;
const page = document.getElementById("search");
let busy = false;
let again = false;

const isOver = () => document.getElementById("summary").hasAttribute("data-over");

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
setUpScales();
setUpCurves();
if (!isOver()) {
  follow();
  // Progress, curves and remaining time change without events.
  every(SECONDS, async () => {
    if (!isOver()) await update();
  });
}
