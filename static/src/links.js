// Links to the site's other hosts carry the visitor's ids along, and to anywhere else they are
// counted where the site wants that.
import { extra, listen, settings, slug, track } from "./core.js";

const PARAMETER = `&_${slug.slice(0, 4)}=`;

export const links = () => {
  const found = location.href.match(PARAMETER + "([^&#]+)");
  if (found) {
    extra.from = found[1];
    history.replaceState(null, "", location.href.replace(found[0], ""));
  }
  listen("click", ({ target }) => {
    const link = target.closest("a[href^=http]");
    if (link.host == location.host) return;
    if (settings.hosts?.some((host) => ("." + link.hostname).endsWith(host)))
      link.search += PARAMETER + [Date.now(), ...document.cookie.match(/_fb[pc]=[^;]+/g)].join("~");
    else if (settings.outbound) track("OutboundClick", { host: link.hostname });
  });
};
