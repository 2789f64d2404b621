import { start } from "./core.js";
import { inapp } from "./inapp.js";
import { mirror } from "./mirror.js";
import { retry } from "./retry.js";
import { signals } from "./signals.js";

start(signals, mirror, retry, inapp);
