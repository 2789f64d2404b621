// Sees what others put into a property, now and later, without replacing what they put there.
import { guard } from "./core.js";

// `filter` gets every value and answers the one to keep.
export const watch = (owner, key, filter) => {
  const careful = guard(filter);
  let value = careful(owner[key]);
  Object.defineProperty(owner, key, {
    configurable: true,
    get: () => value,
    set: (next) => {
      value = careful(next);
    },
  });
};

// Every item of an array that others push to, now and later, goes through `change`.
export const watchItems = (list, change) => {
  const careful = guard(change);
  const { push } = list;
  list.map((item, at) => (list[at] = careful(item)));
  list.push = (...items) => push.apply(list, items.map((item) => careful(item)));
  return list;
};
