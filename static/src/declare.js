// Events and fields that the page's own markup declares: data-px on links, buttons and forms,
// data-px-user on form fields, and data-px-fields on forms that go to the site's backend.
import { data, identify, listen, track } from "./core.js";

// data-px-content-name="…" is content_name.
const fire = (element, eventID) => {
  const values = {};
  for (const { name, value } of element.attributes) {
    const field = /^data-px-(.+)/.exec(name);
    if (field) values[field[1].replace(/-/g, "_")] = value;
  }
  track(element.dataset.px, values, { eventID });
};

export const declare = () => {
  listen("click", ({ target }) => {
    const found = target.closest("[data-px]:not(form)");
    if (found) fire(found);
  });
  // While the visitor fills the form in, what goes to the backend with it is fetched.
  listen("focusin", async ({ target: { form } }) => {
    if (form?.dataset.pxFields != "" || form.fbPixelData) return;
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = "fbPixelData";
    form.append(field);
    const values = await data();
    form.dataset.pxFields = values.eventId;
    field.value = JSON.stringify(values);
  });
  listen("submit", ({ target }) => {
    for (const { dataset, value } of target.elements)
      if (dataset.pxUser) identify({ [dataset.pxUser]: value });
    if (target.dataset.px) fire(target, target.dataset.pxFields);
  });
};
