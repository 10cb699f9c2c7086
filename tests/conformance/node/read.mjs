// Reads boxes of an array with zarrita and prints the SHA-256 of the numbers of each, little-endian in C order.
// Argument: {"base": URL, "path": array, "boxes": {name: [[start, stop], ...]}, "suffix": bool}
import { createHash } from "node:crypto";
import * as zarr from "zarrita";

const job = JSON.parse(process.argv[2]);
const store = new zarr.FetchStore(job.base, { useSuffixRequest: job.suffix });
const array = await zarr.open.v3(zarr.root(store).resolve(`/${job.path}`), { kind: "array" });

const digests = {};
for (const [name, box] of Object.entries(job.boxes)) {
  const { data } = await zarr.get(array, box.map(([start, stop]) => zarr.slice(start, stop)));
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  digests[name] = createHash("sha256").update(bytes).digest("hex");
}
console.log(JSON.stringify(digests));
