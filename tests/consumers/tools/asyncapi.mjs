// Judges an AsyncAPI document: `node asyncapi.mjs FILE` prints what is wrong, and ends with 1 if anything is.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
for (const { severity, message, path } of diagnostics) console.log(severity, path.join("/"), message);
if (document === undefined || diagnostics.some(({ severity }) => severity < 2)) process.exit(1);
console.log(document.version(), document.channels().length, "channels,", document.messages().length, "messages");
