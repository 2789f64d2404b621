// Events that did not get through wait in the browser and are sent again, under the same ids: at
// most 20 for a day, without anything about the person (no user data, no query of an address, no
// text with an e-mail address in it).
import { flush, guard, listen, on, post, slug } from "./core.js";

let notBefore = 0;

const load = () =>
  JSON.parse(localStorage[slug] || "[]").filter(({ time }) => time > Date.now() - 864e5);

const bare = (key, value) =>
  /@|%40/.test(value) ? undefined : /^http/.test(value) ? value.split(/[?#]/)[0] : value;

export const retry = () => {
  on.forget = guard(() => delete localStorage[slug]);
  on.flush = guard(() => {
    if (Date.now() > notBefore) {
      const kept = load();
      on.forget();
      if (kept[0]) post(kept);
    }
  });
  on.answer = (events, { status, headers }) => {
    if (status == 408 || !(status < 429)) {
      localStorage[slug] = JSON.stringify([...load(), ...events].slice(-20), bare);
      const wait_ms = (headers?.get("Retry-After") || 30) * 1e3;
      notBefore = Date.now() + wait_ms;
      setTimeout(flush, wait_ms + 9);
    }
  };
  listen("online", () => flush((notBefore = 0)));
};
