// What every build has: the px API, consent, one page view per navigation, and the way to the gateway.
// Cookies, click ids, address and campaign are the server's work. Nothing here may break the page.

// The server puts an object here: {path, name, consent, gpc} and what features want. `consent` is
// what holds as long as nobody says anything ("wait" or null), `gpc` whether the browser may object.
export const settings = __SETTINGS__;
const { name } = settings;
export const VIEW = "PageView";

// What features hang on to the core: answer(events, response), flush(), forget(), view(), user(key).
export const on = {};
// What features add to a hit; `user` holds advanced matching.
export const user = {};
export const extra = { user };

export const base = document.currentScript?.src.split(/[?#]/)[0] || settings.path;
export const slug = base.split("/").pop();

// What goes wrong in here is nobody else's business: the caller gets its first argument back.
export const guard =
  (action) =>
  (...values) => {
    try {
      return action(...values);
    } catch {
      return values[0];
    }
  };

// Captured, to be there before the page's own listeners and fbevents.js.
export const listen = (kind, action) => addEventListener(kind, guard(action), true);

// --- events ------------------------------------------------------------------------------------

let queue = [];
let timer;
const recorded = new Set();

const newId = () => Date.now() + "-" + Math.random();

// The caller's id, or a new one. The first page view of a navigation takes the navigation's own id,
// so that one which comes after ours is the same event to everybody.
export const idOf = (name, options) => {
  let id = options?.eventID || options?.event_id;
  if (!id && name == VIEW) {
    arrive();
    id = free;
    free = 0;
  }
  return "" + (id || newId());
};

export const make = (name, id, data) => ({
  name,
  id,
  time: Date.now(),
  url: location.href,
  referrer: document.referrer,
  // Copied, because the page may change it later.
  data: JSON.parse(JSON.stringify(data || {})),
});

// Once per name and id, however many ways an event comes in.
export const record = (event) => {
  const key = event.name + event.id;
  // Whoever sends it, the navigation has its page view.
  if (event.name == VIEW) seen = arrive();
  // 99 are enough for an hour of waiting for the visitor's answer.
  if (verdict != "denied" && !recorded.has(key) && !queue[99]) {
    recorded.add(key);
    queue.push(event);
    timer ||= setTimeout(flush, 300);
  }
};

export const track = (name, data, options) => {
  const event = make(name, idOf(name, options), data);
  record(event);
  return event.id;
};

export const identify = (values) => {
  for (const key in values) {
    user[key] = values[key];
    on.user?.(key);
  }
};

// --- page views --------------------------------------------------------------------------------

let here; // the address of this navigation
let visit; // its page view
let free; // its page view's id, until one takes it
let seen; // the last navigation that had one

// The current navigation, a new one if the address is another. It is also asked for by page views,
// because fbevents.js sends its own from within pushState, before anybody else hears of it.
const arrive = (event, quiet) => {
  // A fragment is a place on the page, unless it looks like a route.
  const now = location.href.replace(/#(?![!/]).*/, "");
  if (event?.persisted || now != here) {
    here = now;
    if (!quiet) {
      settle();
      visit = make(VIEW, (free = newId()));
      // The site's own page view may still be on its way when there is a pixel.
      setTimeout(look, window.fbq ? 1500 : 300, visit);
    }
  }
  return visit;
};

const settle = () => {
  if (seen != visit) (on.view || record)(visit);
};

const look = (view) => {
  if (view == visit) settle();
  flush();
};

const leave = () => {
  leaving = 1;
  settle();
  flush();
  leaving = 0;
};

const follow = () => {
  ["pushState", "replaceState"].map((verb) => {
    const real = history[verb];
    history[verb] = function () {
      const { pathname } = location;
      real.apply(this, arguments);
      // Tidying the query, or a router's first step, is not a navigation.
      arrive(0, verb > "r" && (pathname == location.pathname || seen != visit));
    };
  });
  listen("popstate", arrive);
  listen("pageshow", arrive);
  listen("pagehide", leave);
  listen("visibilitychange", leave);
  listen("prerenderingchange", flush);
  arrive();
};

// --- consent -----------------------------------------------------------------------------------

// A frame is no visit of its own, and under "opt-out" the browser may object by itself.
const never = window != top || (settings.gpc && navigator.globalPrivacyControl);

// What each source says: granted, denied, wait, or nothing.
export const said = {};
let verdict = never ? "denied" : settings.consent;

const forget = (before) => {
  queue = [];
  on.forget?.();
  // The server deletes its cookies. Nothing was set while the answer was waited for, unless earlier.
  if (before != "wait" || /_fbp=/.test(document.cookie)) post(queue);
};

export const say = (source, word) => {
  if (never) return;
  const before = verdict;
  said[source] = word;
  // What the site itself says stands, otherwise the strictest of the others.
  verdict =
    said.px ||
    ["denied", "wait", "granted"].find((one) => JSON.stringify(said).includes(one)) ||
    settings.consent;
  // Not at once: several sources may be about to speak.
  if (verdict != "denied") setTimeout(flush);
  else if (verdict != before) forget(before);
};

const allowed = () => !/wait|denied/.test(verdict) && !document.prerendering;

// --- the way to the gateway --------------------------------------------------------------------

let leaving; // the page is about to go
let sending; // the last request

const ask = async (path, options) => fetch(base + path, { credentials: "include", ...options });

export const flush = () => {
  timer = clearTimeout(timer);
  if (allowed()) {
    on.flush?.();
    while (queue[0]) post(queue.splice(0, 20));
  }
};

export const post = (events, part) => {
  const body = JSON.stringify({
    sent: Date.now(),
    consent: verdict,
    ...extra,
    events,
  });
  // All requests that may outlive a page share 64 KiB, and the gateway takes no more in one.
  const short = body.length < 2e4;
  const keepalive = short && (leaving || !part);
  if (!short && events[1]) events.map((event) => post([event], 1));
  else if (leaving && !("keepalive" in Request.prototype)) navigator.sendBeacon(base + "/h", body);
  else
    sending = ask("/h", { method: "POST", keepalive, body })
      .catch(() => 0)
      .then(guard((response) => on.answer(events, response)));
};

// The visitor's fbPixelData; only an id to share where the visitor has not agreed. The hit goes
// first, because it carries the visitor's agreement and its answer the cookies.
export const data = async () => {
  try {
    leave();
    await sending;
    if (allowed()) return await (await ask("/me")).json();
  } catch {}
  return { eventId: newId() };
};

// --- start -------------------------------------------------------------------------------------

const verbs = {
  track,
  trackCustom: track,
  identify,
  data,
  consent: (word) => say("px", word == "grant" ? "granted" : "denied"),
};

export const start = (...features) => {
  const stub = window[name];
  if (stub?.loaded) return;
  const px = (window[name] = guard((verb, ...rest) => verbs[verb](...rest)));
  px.loaded = 1;
  if (window == top) {
    [...features, follow].map((feature) => guard(feature)());
    if (never) guard(forget)("wait");
  }
  stub?.q?.map((call) => px(...call));
};
