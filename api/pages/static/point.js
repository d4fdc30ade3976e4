// The page of a point: exports appear without a reload (live.js).

import "./live.js";
