import { start } from "./core.js";
import { declare } from "./declare.js";
import { inapp } from "./inapp.js";
import { links } from "./links.js";
import { match } from "./match.js";
import { mirror } from "./mirror.js";
import { retry } from "./retry.js";
import { signals } from "./signals.js";

start(signals, links, mirror, retry, match, inapp, declare);
