// The best known networks for a dataset: the joint front of its searches, if it has any points.

import {startFront} from "./front.js";

if (document.getElementById("front") !== null) startFront();
