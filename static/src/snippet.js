// The page's side of the gateway: one page view, px('track', …), sent with fetch keepalive.
// Cookies, click ids, address and campaign are the server's work. Nothing here may break the page.
(function (settings) {
  "use strict";
  const stub = window[settings.name];
  if (stub && stub.loaded) return;

  const script = document.currentScript;
  const base = script && script.src ? script.src.split(/[?#]/)[0] : settings.path;
  let user = {};
  let queue = [];
  let timer = 0;
  // granted, denied or waiting. Before a grant under "required" nothing leaves the page.
  let consent =
    settings.consent === "required" ? "waiting"
    : settings.consent === "opt-out" && navigator.globalPrivacyControl ? "denied"
    : "unasked";

  function id() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  }

  function post(events) {
    const hit = { sent: Date.now(), language: navigator.language, user, events };
    if (consent === "granted" || consent === "denied") hit.consent = consent;
    return fetch(base + "/h", {
      method: "POST",
      keepalive: true,
      credentials: "include",
      body: JSON.stringify(hit),
    }).catch(() => 0);
  }

  function flush() {
    clearTimeout(timer);
    timer = 0;
    if (consent === "waiting" || document.prerendering) return;
    // A browser gives all keepalive requests of a page 64 KiB together.
    while (queue.length) post(queue.splice(0, 20));
  }

  function track(name, data, options) {
    const event = {
      name: String(name),
      id: String((options && (options.eventID || options.event_id)) || id()),
      time: Date.now(),
      url: location.href,
      referrer: document.referrer,
    };
    if (data && typeof data === "object") event.data = data;
    if (consent !== "denied") {
      queue.push(event);
      timer = timer || setTimeout(flush, 0);
    }
    return event.id;
  }

  function decide(choice) {
    if (choice === "grant") {
      consent = "granted";
      flush();
    } else if (choice === "revoke") {
      queue = [];
      // Under "required" nothing was set before a grant, so there is nothing to take back.
      const told = consent !== "waiting" && consent !== "denied";
      consent = "denied";
      if (told) post([]);
    }
  }

  const verbs = {
    track,
    trackCustom: track,
    identify: (values) => void (user = Object.assign({}, user, values)),
    consent: decide,
  };

  function px(verb, ...rest) {
    try {
      return verbs[verb] && verbs[verb](...rest);
    } catch {
      return undefined;
    }
  }

  px.loaded = true;
  window[settings.name] = px;
  for (const call of (stub && stub.q) || []) px(...call);
  if (window === window.top) track("PageView");
  document.addEventListener("prerenderingchange", flush);
  addEventListener("pagehide", flush);
})(__SETTINGS__);
