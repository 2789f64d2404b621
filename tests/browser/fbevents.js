// Stands in for Meta's fbevents.js: written for these tests, it does in its own words what the real
// one does to a page. It takes over fbq by callMethod, drains the queue by shift, pushes calls back
// while it waits for a pixel's settings or for consent, sends page views of its own on history
// changes and on pages restored from the back-forward cache, reports clicks on buttons, rewrites
// its cookies, and tells its event bus of every event. Switches in its URL:
//   openbridge=1  automatic events get an id from a plugin that comes with the pixel's settings
//   bus=0         an old version, without the event bus
//   broken=1      every call throws
(() => {
  const { origin, searchParams } = new URL(document.currentScript.src);
  const fbq = window.fbq;
  if (!fbq || fbq.getState) return;

  class Bus {
    listeners = [];
    listen(listener) {
      this.listeners.push(listener);
    }
    trigger(...values) {
      for (const listener of this.listeners) listener(...values);
    }
  }
  const buses = { setEventId: new Bus(), fired: new Bus() };

  class Params {
    pairs = [];
    append(key, value) {
      this.pairs.push([key, String(value)]);
    }
    get(key) {
      const found = this.pairs.find((pair) => pair[0] === key);
      return found ? found[1] : null;
    }
    toQueryString() {
      return this.pairs.map(([k, v]) => `${k}=${encodeURIComponent(v)}`).join("&");
    }
  }

  const pixels = [];
  const waiting = new Set(); // for the settings of pixels
  const locks = {}; // consent, while it is revoked
  let options = [];
  const locked = () => locks.consent || waiting.size > 0;

  function keep(name, value) {
    const expires = new Date(Date.now() + 90 * 864e5).toUTCString();
    document.cookie = `${name}=${value}; path=/; SameSite=Lax; expires=${expires}`;
  }

  function cookies() {
    const [, fbp] = /(?:^|; )_fbp=([^;]*)/.exec(document.cookie) || [];
    keep("_fbp", fbp || `fb.0.${Date.now()}.${Math.floor(Math.random() * 1e10)}`);
    const click = new URLSearchParams(location.search).get("fbclid");
    if (click && !document.cookie.includes(click)) keep("_fbc", `fb.0.${Date.now()}.${click}`);
  }

  function fire(pixel, name, data, given) {
    const params = new Params();
    params.append("id", pixel);
    params.append("ev", name);
    params.append("dl", location.href);
    params.append("rl", document.referrer);
    params.append("if", window.top !== window);
    params.append("ts", Date.now());
    for (const [key, value] of Object.entries(data || {})) {
      const text = value && typeof value === "object" ? JSON.stringify(value) : value;
      params.append(`cd[${encodeURIComponent(key)}]`, text);
    }
    if (options.length) params.append("dpo", options.join());
    const id = given && (given.eventID || given.event_id);
    if (id) params.append("eid", id);
    else buses.setEventId.trigger(String(pixel), params, name);
    cookies();
    const query = params.toQueryString();
    const url = `${origin}/facebook.com/tr/`;
    if (query.length < 2048) new Image().src = `${url}?${query}`;
    else fetch(url, { method: "POST", body: query, keepalive: true, mode: "no-cors" });
    buses.fired.trigger(query.length < 2048 ? "GET" : "POST", params);
  }

  const everywhere = (name, data, given) => pixels.forEach((pixel) => fire(pixel, name, data, given));

  const verbs = {
    init(pixel) {
      pixels.push(pixel);
      waiting.add(pixel);
      setTimeout(() => {
        if (searchParams.has("openbridge"))
          buses.setEventId.listen((_pixel, params) => {
            params.append("eid", `ob3_plugin-set_${crypto.randomUUID()}`);
          });
        waiting.delete(pixel);
        drain();
      }, 30);
    },
    consent(word) {
      if (word === "revoke") locks.consent = true;
      else delete locks.consent;
      drain();
    },
    track: everywhere,
    trackCustom: everywhere,
    trackSingle: fire,
    trackSingleCustom: fire,
    dataProcessingOptions(list) {
      options = list;
    },
    set() {},
    fire: (call) => call(),
  };

  function run(call) {
    const [verb, ...rest] = call;
    if (searchParams.has("broken")) throw new TypeError("this copy is broken");
    if (!verbs[verb]) return;
    if (verb.startsWith("track") && locked()) fbq.queue.push(call);
    else verbs[verb](...rest);
  }

  function drain() {
    for (let left = fbq.queue.length; left > 0; left--) run(fbq.queue.shift());
  }

  const modules = searchParams.get("bus") === "0" ? {} : { SignalsFBEventsEvents: buses };
  fbq.getFbeventsModules = (name) => {
    if (!modules[name]) throw new Error(`no module ${name}`);
    return modules[name];
  };
  fbq.getState = () => ({ pixels });
  fbq.instance = { locks: { _locks: locks } };
  fbq.version = "2.9.0-stand-in";
  fbq.callMethod = function () {
    run(arguments);
  };

  let href = location.href;
  function moved() {
    if (location.href === href || fbq.disablePushState === true) return;
    href = location.href;
    everywhere("PageView");
  }
  for (const verb of ["pushState", "replaceState"]) {
    const real = history[verb];
    history[verb] = function () {
      real.apply(this, arguments);
      moved();
    };
  }
  addEventListener("popstate", moved);
  addEventListener("pageshow", (event) => event.persisted && everywhere("PageView"));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button, a");
    if (button) everywhere("SubscribedButtonClick", { buttonText: button.textContent });
  });

  drain();
})();
