// Ghostery's engine: the question and the answer of ubo.js. It knows no rules about parameters and headers.
import { readFileSync } from 'node:fs';
import { FiltersEngine, Request } from '@ghostery/adblocker';

const { lists, requests } = JSON.parse(readFileSync(0, 'utf8'));
const engine = FiltersEngine.parse(lists.join('\n'), {
  debug: true,
  loadCosmeticFilters: false,
  enableOptimizations: false, // unmerged, so that an answer names one rule and not a dozen
});
const hits = {};
requests.forEach(([url, sourceUrl, type], index) => {
  const { match, filter } = engine.match(Request.fromRawDetails({ url, sourceUrl, type }));
  if (match) hits[index] = filter.rawLine ?? String(filter);
});
console.log(JSON.stringify({ rules: engine.getFilters().networkFilters.length, hits }));
