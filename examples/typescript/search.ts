// Asks a running glimpse for the images that fit a text.
//
//   node build/search.js [--address 127.0.0.1:50053] [--collection images] [--limit 10] TEXT

import { parseArgs } from "node:util";
import path from "node:path";

import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

import type { ProtoGrpcType } from "./generated/query";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    address: { type: "string", default: "127.0.0.1:50053" },
    collection: { type: "string", default: "images" },
    limit: { type: "string", default: "10" },
  },
});
if (positionals.length === 0) {
  console.error("give a text to search for");
  process.exit(2);
}

// The contracts are read when the program starts; google/rpc/status.proto comes with google-proto-files.
const example = path.join(__dirname, "..");
const definition = loadSync("glimpse/query/v1/query.proto", {
  includeDirs: [path.join(example, "../../protos"), path.join(example, "node_modules/google-proto-files")],
  defaults: true,
});
const contracts = grpc.loadPackageDefinition(definition) as unknown as ProtoGrpcType;

// One client serves any number of calls at once; make it once and keep it.
const client = new contracts.glimpse.query.v1.Query(values.address, grpc.credentials.createInsecure());
const request = {
  collection: values.collection,
  text: positionals.join(" "),
  options: { limit: Number(values.limit) },
};
client.search(request, { deadline: Date.now() + 5_000 }, (error, response) => {
  if (error) {
    console.error(`${grpc.status[error.code]}: ${error.details}`);
    process.exitCode = 1;
  }
  for (const hit of response?.hits ?? []) {
    console.log(`${Number(hit.score).toFixed(3)}  ${hit.attributes?.uri}`);
  }
  client.close();
});
