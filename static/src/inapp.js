// Facebook's and Instagram's own browsers know the click id also when the address has none.
// The two ways to ask are those of Meta's parameter builder (clientParamBuilder, ebpExtension).
import { extra } from "./core.js";

const keep = (click) => (extra.click = click);

export const inapp = () => {
  window.webkit?.messageHandlers?.browserProperties?.postMessage("clickID").then(keep, () => 0);
  if (/FBAV|Instagram/.test(navigator.userAgent)) {
    const request = new XMLHttpRequest();
    request.onload = () => keep(request.responseText);
    request.open("GET", "properties://browser/clickID");
    request.send();
  }
};
