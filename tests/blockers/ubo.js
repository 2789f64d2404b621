// uBlock Origin's engine: reads one question as JSON, answers it as JSON.
//   {lists: [text], suffixes: text, requests: [[url, page, type]], headers: [{name, value}]}
//   {rules: n, hits: {index: rule}}
import { readFileSync } from 'node:fs';
import { StaticNetFilteringEngine, enableWASM, pslInit } from '@gorhill/ubo-core';
import { FilteringContext } from '@gorhill/ubo-core/js/filtering-context.js';
import core from '@gorhill/ubo-core/js/static-net-filtering.js';
import suffixes from '@gorhill/ubo-core/lib/publicsuffixlist/publicsuffixlist.js';

const { lists, suffixes: text, requests, headers } = JSON.parse(readFileSync(0, 'utf8'));

// The package's own list of public suffixes does not load, and then every sibling is a third party.
pslInit(text);
if (suffixes.getDomain('a.b.example.co.uk') !== 'example.co.uk') {
  throw new Error('the public suffix list did not load');
}
await enableWASM();
const engine = await StaticNetFilteringEngine.create({ noPSL: true });
await engine.useLists(lists.map((raw) => ({ raw })));

const context = new FilteringContext();
const hits = {};
requests.forEach(([url, originURL, type], index) => {
  const request = { url, originURL, type };
  if (engine.matchRequest(request) === 1) hits[index] = engine.toLogData().raw;
  else if (core.matchHeaders(context.fromDetails(request), headers) === 1) {
    hits[index] = core.toLogData().raw;
  } else if (url.includes('?')) {
    const stripped = engine.filterQuery(request);
    if (stripped?.redirectURL) hits[index] = stripped.directives[0].logData().raw;
  }
});
console.log(JSON.stringify({ rules: core.getFilterCount(), hits }));
