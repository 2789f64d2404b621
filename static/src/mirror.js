// Every event of Meta's pixel, also sent to the gateway under the same id.
//
// fbq is never replaced: base code, plugins and tag managers keep references to it. Its queue and
// its callMethod are watched instead, so each call is seen on its way through, with or without
// fbevents.js, which may come before us, after us, or not at all. What fbevents.js sends by itself
// passes neither; it is seen on its event bus.
import { extra, guard, identify, idOf, listen, make, on, record, said, say, VIEW } from "./core.js";
import { watch, watchItems } from "./watch.js";

// fbevents.js sends these by itself; nobody asked for them, and Meta's own gateway skips them too.
const SKIPPED = /^(SubscribedButtonClick|Microdata|InputData)$/;

const known = new WeakSet(); // functions that are being watched
const ours = new WeakMap(); // options we made, to their events: a call may come by several times
const passed = {}; // marks a consent call that came by

// A call on its way to the pixel. `live`: fbevents.js is there to take it.
const change = (call, live) => {
  const [verb, first, second] = call;
  const [track, single] = /^track(Single)?(Custom)?$/.exec(verb) || [];
  if (track) {
    const at = single ? 4 : 3;
    let event = ours.get(call[at]);
    if (!event) {
      call = [...call];
      event = make(call[at - 2], idOf(call[at - 2], call[at]), call[at - 1]);
      ours.set((call[at] = { ...call[at], eventID: event.id }), event);
      if (single) event.to = first;
      record(event);
    }
    event.pixel = live;
  } else if (verb == "consent" && second != passed) {
    // A pixel that was never granted holds its events; one that was has been refused.
    say("fbq", first == "grant" ? "granted" : said.fbq == "granted" ? "denied" : "wait");
    call = [verb, first, passed];
  } else if (verb == "init" || first == "userData") identify(second);
  else if (verb == "dataProcessingOptions") extra.limits = [...call].slice(1);
  return call;
};

// An event that fbevents.js sent, by its request's parameters, which the server reads.
const recover = (query) => {
  const sent = new URLSearchParams(query);
  const event = make(sent.get("ev"), sent.get("eid"));
  event.query = query;
  event.pixel = true;
  if (event.id && !SKIPPED.test(event.name)) record(event);
};

let firstPixel;
let lastId;

const follow = (fbq) => {
  const { setEventId, fired } = fbq.getFbeventsModules("SignalsFBEventsEvents");
  const { trigger } = setEventId;
  // After all others: where Meta's OpenBridge is on, it gives the id.
  setEventId.trigger = function (pixel, params, name) {
    const result = trigger.apply(this, arguments);
    if (!params.get("eid")) {
      // Several pixels send the same event one after the other: one id for all of them.
      if (pixel == (firstPixel ||= pixel)) lastId = idOf(name);
      params.append("eid", lastId);
    }
    return result;
  };
  fired.listen(guard((method, params) => recover(params.toQueryString())));
};

const attach = (fbq) => {
  if (known.has(fbq)) return fbq;
  known.add(fbq);
  watch(fbq, "queue", (queue) => watchItems(queue, (call) => change(call)));
  watch(fbq, "callMethod", (real) => {
    if (!real) return;
    // We may be too late to have heard that it waits for consent.
    if (fbq.instance?.locks?._locks?.consent) say("fbq", "wait");
    try {
      follow(fbq);
    } catch {
      // A version without the bus: its own page views have no id, so we make those of the history.
      fbq.disablePushState = true;
      on.view = () => fbq("track", VIEW);
    }
    return (...args) => real.apply(fbq, guard(change)(args, true));
  });
  // What it has sent already when we come late.
  for (const { name } of performance.getEntriesByType("resource"))
    if (/facebook.com.tr/.test(name)) guard(recover)(name.split("?")[1]);
  return fbq;
};

// Again and again, because a function declared at the top level takes the property away from us.
const look = guard(() => watch(window, "fbq", attach));

export const mirror = () => {
  // In time before the next script of the page runs.
  const observer = new MutationObserver(look);
  observer.observe(document, { childList: true, subtree: true });
  listen("load", () => observer.disconnect());
  look();
};
