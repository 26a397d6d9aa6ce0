// Makes TypeScript types (json-schema-to-typescript) and a reader in JavaScript (quicktype) from the schemas in a
// folder, and has both read its values: `node models.mjs FOLDER`. The folder has TOPIC.json, and values in TOPIC/.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { compile } from "json-schema-to-typescript";

const [folder, bin] = [resolve(process.argv[2]), join(import.meta.dirname, "node_modules/.bin")];
for (const topic of ["orders", "invoices"]) {
  const schema = join(folder, `${topic}.json`);
  const values = readdirSync(join(folder, topic)).map((name) => readFileSync(join(folder, topic, name), "utf8"));

  const types = await compile({ ...JSON.parse(readFileSync(schema)), title: "Event" }, topic);
  writeFileSync(join(folder, `${topic}.ts`), types);
  const use = `import type { Event } from "./${topic}"; function take(event: Event) { return event.event_id; }`;
  const uses = join(folder, `${topic}-values.ts`);
  writeFileSync(uses, [use, ...values.map((value) => `take(${value});`)].join("\n"));
  execFileSync(join(bin, "tsc"), ["--strict", "--noEmit", "--skipLibCheck", uses], { stdio: "inherit" });

  const reader = join(folder, `${topic}.cjs`);
  const wanted = ["--src-lang", "schema", "--lang", "javascript", "--top-level", "Event", "--out", reader, schema];
  execFileSync(join(bin, "quicktype"), wanted, { stdio: "inherit" });
  const { toEvent } = createRequire(import.meta.url)(reader);
  for (const value of values) {
    if (toEvent(value).event_id !== JSON.parse(value).event_id) throw new Error(`read otherwise: ${value}`);
  }
  console.log(`${topic}: TypeScript and JavaScript read ${values.length} values`);
}
