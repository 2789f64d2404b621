// Answers for Meta's parameter builder: a JSON line [type, value] in, a JSON line [form, sent] out.
// `form` is what it hashes, `sent` the hash with its appendix; null where it sends nothing.
"use strict";

const readline = require("node:readline");
const pii = require("capi-param-builder-nodejs/src/piiUtil/PIIUtil");

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const [type, value] = JSON.parse(line);
  const answer = [pii.getNormalizedPII(value, type), pii.getNormalizedAndHashedPII(value, type)];
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
