// node web_runner.mjs PACKAGES REQUEST: runs .onnx files in onnxruntime-web, in WebAssembly.
//
// PACKAGES is the folder whose node_modules holds onnxruntime-web. REQUEST is a JSON file:
//   threads       of one inference
//   rounds        of timing, 0 for none; in each, every file takes a turn, every other time backwards
//   milliseconds  of a turn
//   processor     whether times are those of the process on all processors, not of the clock
//   files         [{path, inputs: [{name, dtype, shape, data}]}]; data: a file with the array's bytes
// The last line on standard output is JSON, a row for each file: its outputs [{name, dtype, shape, data: base64}], the
// milliseconds until it was loaded, and in each round the mean milliseconds of one inference.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [packages, request] = process.argv.slice(2);
const ort = createRequire(`${packages}/`)("onnxruntime-web");
const { threads, rounds, milliseconds, processor, files } = JSON.parse(readFileSync(request));
ort.env.wasm.numThreads = threads;
ort.env.logLevel = "error";

function now() {
  if (!processor) return performance.now();
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function bytesOf(path) {
  const bytes = readFileSync(path);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

function tensor({ dtype, shape, data }) {
  const arrays = {
    float32: Float32Array, int8: Int8Array, uint8: Uint8Array, int32: Int32Array, int64: BigInt64Array, bool: Uint8Array,
  };
  return new ort.Tensor(dtype, new arrays[dtype](bytesOf(data)), shape);
}

const loaded = [];
for (const { path, inputs } of files) {
  const begun = now();
  const session = await ort.InferenceSession.create(path, { executionProviders: ["wasm"] });
  const load = now() - begun;
  const feeds = Object.fromEntries(inputs.map((input) => [input.name, tensor(input)]));
  const results = await session.run(feeds);
  const outputs = session.outputNames.map((name) => {
    const { type, dims, data } = results[name];
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    return { name, dtype: type, shape: dims, data: bytes.toString("base64") };
  });
  loaded.push({ session, feeds, row: { outputs, load, times: [] } });
}

async function meanOf(count, { session, feeds }) {
  const begun = now();
  for (let done = 0; done < count; done += 1) await session.run(feeds);
  return (now() - begun) / count;
}

if (rounds) {
  // The first runs are slower: WebAssembly is compiled once more, optimized.
  for (const file of loaded) file.count = Math.max(1, Math.round(milliseconds / (await meanOf(3, file))));
}
for (let round = 0; round < rounds; round += 1) {
  for (const file of round % 2 ? [...loaded].reverse() : loaded) file.row.times.push(await meanOf(file.count, file));
}
console.log(JSON.stringify(loaded.map((file) => file.row)));
