// The page of a point: what is asked for appears by itself (live.js).

import "./live.js";
