// Consent banners, by the interfaces they share: IAB TCF v2 and GPP, and Google's consent mode.
import { guard, say } from "./core.js";
import { watchItems } from "./watch.js";

const sources = {
  __tcfapi: (api) =>
    api(
      "addEventListener",
      2,
      guard(({ eventStatus, gdprApplies, purpose: { consents } }) => {
        // Storage, a profile for advertising, advertising by it: what Meta does with an event.
        const agreed = consents[1] && consents[3] && consents[4];
        const asked = eventStatus == "cmpuishown" ? "wait" : "denied";
        say("tcf", gdprApplies !== false && (agreed ? "granted" : asked));
      }),
    ),
  __gpp: (api) =>
    api(
      "addEventListener",
      guard((ping) => {
        // Of selling, sharing or targeting, in any section.
        const text = JSON.stringify(ping);
        say("gpp", /OptOut":1/.test(text) && "denied");
      }),
    ),
  dataLayer: (list) =>
    watchItems(list, (item) => {
      if (item[0] == "consent")
        ["ad_storage", "ad_user_data"].map((key) => {
          const word = item[2][key];
          // A default is what holds until the banner has been answered.
          if (word) say(key, word == "denied" && item[1] == "default" ? "wait" : word);
        });
      return item;
    }),
};

export const signals = () => {
  for (const key in sources) {
    if (window[key]) {
      guard(sources[key])(window[key]);
      delete sources[key];
    }
  }
  setTimeout(signals, 200);
};
