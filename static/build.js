// Builds the three snippets into built/ (or the folder named as first argument) and prints their
// sizes. Ends with 1 when one is larger than a page should have to load.
import { mkdirSync, writeFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const LARGEST = { full: 3072, default: 2600, core: 1500 }; // bytes of brotli 11
const folder = process.argv[2] || new URL("built", import.meta.url).pathname;
mkdirSync(folder, { recursive: true });

let failed = false;
for (const [name, largest] of Object.entries(LARGEST)) {
  const bundle = await build({
    entryPoints: [new URL(`src/build-${name}.js`, import.meta.url).pathname],
    bundle: true,
    minify: true,
    write: false,
    format: "iife",
    target: "es2021",
    charset: "utf8",
    logLevel: "warning",
  });
  // A second minifier finds another 3 %.
  const { code } = await minify(bundle.outputFiles[0].text, {
    ecma: 2020,
    toplevel: true,
    compress: { passes: 3, unsafe_arrows: true, unsafe_methods: true, pure_getters: true, keep_fargs: false },
    mangle: { properties: { regex: /^(answer|forget|view)$/ } }, // the core's hooks, nobody else's names
  });
  writeFileSync(`${folder}/${name}.js`, code);
  const brotli = brotliCompressSync(code).length;
  failed ||= brotli > largest;
  const verdict = brotli > largest ? "TOO LARGE" : "ok";
  console.log(`${name.padEnd(8)} raw ${code.length}  gzip ${gzipSync(code, { level: 9 }).length}  brotli ${brotli} of ${largest}  ${verdict}`);
}
process.exit(failed ? 1 : 0);
