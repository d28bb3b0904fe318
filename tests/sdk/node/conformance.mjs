// The official OpenAI SDK for Node, unmodified, against a gateway: only the address and the key are changed.
//
// MIMEO_BASE_URL            the gateway, with /v1
// MIMEO_API_KEY             a key of the gateway
// MIMEO_SANDBOX             the simulated provider behind it, whose invoice book says what was really paid
// MIMEO_TEST_NODE_MODULES   the folder that `npm ci` made from the package.json beside this file

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import zlib from "node:zlib";

const modules = path.resolve(process.env.MIMEO_TEST_NODE_MODULES);
const require = createRequire(path.join(modules, "from-here.cjs"));
const OpenAI = require("openai");
const { toFile } = OpenAI;

const baseURL = process.env.MIMEO_BASE_URL;
const apiKey = process.env.MIMEO_API_KEY;
const model = "openai/gpt-image-2";
const client = new OpenAI({ baseURL, apiKey });

// --- what the checks lean on ---

/** The lines of the invoice book for this prompt. */
async function bills(prompt) {
  const book = await (await fetch(`${process.env.MIMEO_SANDBOX}/control/book`)).json();
  return book.lines.filter((line) => line.prompt === prompt);
}

const decoded = (item) => Buffer.from(item.b64_json, "base64");
const isPng = (bytes) => bytes.subarray(1, 4).toString() === "PNG";
const isJpeg = (bytes) => bytes.readUInt16BE(0) === 0xffd8;

function pixels(png) {
  assert.ok(isPng(png), "it is a PNG");
  return [png.readUInt32BE(16), png.readUInt32BE(20)];
}

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** A PNG of one colour. */
function painted(width, height, rgba) {
  const chunk = (kind, data) => {
    const body = Buffer.concat([Buffer.from(kind), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 6, 0, 0, 0], 8);
  const row = Buffer.concat([Buffer.from([0]), ...Array(width).fill(Buffer.from(rgba))]);
  const rows = zlib.deflateSync(Buffer.concat(Array(height).fill(row)));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

const file = (name, width, height, rgba) => toFile(painted(width, height, rgba), name, { type: "image/png" });

async function raises(kind, call) {
  try {
    await call();
  } catch (error) {
    assert.equal(error.constructor, kind, `${error.constructor.name} is not ${kind.name}: ${error.message}`);
    return error;
  }
  assert.fail(`${kind.name} was not raised`);
}

async function collect(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

// --- the checks ---

const checks = {
  async "generate, base64"() {
    const prompt = "node: a red kite";
    const image = await client.images.generate({ model, prompt, size: "1024x1024", quality: "low" });
    assert.equal(image.data.length, 1);
    assert.deepEqual(pixels(decoded(image.data[0])), [1024, 1024]);
    assert.deepEqual([image.size, image.quality, image.output_format], ["1024x1024", "low", "png"]);
    const [line] = await bills(prompt);
    assert.equal(image.usage.output_tokens, line.usage.output_tokens);
    assert.equal(image.usage.total_tokens, image.usage.input_tokens + image.usage.output_tokens);
  },

  async "generate, address"() {
    const image = await client.images.generate({
      model: "compatible/any-name", prompt: "node: an address", size: "256x256", response_format: "url",
    });
    assert.equal(image.data[0].b64_json, undefined);
    const picture = await fetch(image.data[0].url);
    assert.equal(picture.headers.get("content-type"), "image/png");
    assert.deepEqual(pixels(Buffer.from(await picture.arrayBuffer())), [256, 256]);
  },

  async "generate, several"() {
    const prompt = "node: two kites";
    const image = await client.images.generate({ model, prompt, n: 2, quality: "low", size: "1024x1024" });
    assert.equal(image.data.length, 2);
    assert.notDeepEqual(decoded(image.data[0]), decoded(image.data[1]));
    assert.equal((await bills(prompt)).length, 1);
  },

  async "generate, jpeg with everything"() {
    const image = await client.images.generate({
      model, prompt: "node: a jpeg", size: "1536x1024", quality: "medium", background: "opaque",
      output_format: "jpeg", output_compression: 60, moderation: "low", user: "somebody",
    });
    assert.ok(isJpeg(decoded(image.data[0])));
    assert.deepEqual([image.output_format, image.size, image.background], ["jpeg", "1536x1024", "opaque"]);
  },

  async "a template, with fields that the SDK does not know"() {
    const { data: image, response } = await client.images
      .generate({ prompt: "", template: "article", data: { title: "Drawn here", author: "Ada Lovelace" } })
      .withResponse();
    assert.deepEqual(pixels(decoded(image.data[0])), [1200, 630]);
    assert.equal(response.headers.get("x-mimeo-provider"), "template");
    assert.equal(response.headers.get("x-mimeo-cost-usd"), "0");
  },

  async "cache, metadata, explain"() {
    const prompt = "node: the cache";
    const asked = { model: "two", prompt, size: "64x64" };
    const first = await client.images.generate({ ...asked, explain: true, metadata: { order: "17" }, purpose: "node" });
    assert.equal(first.mimeo.cache, "miss");
    assert.equal(first.mimeo.cost_usd, "0.01");
    assert.ok(first.mimeo.explain.some((line) => line.includes("sandbox/standard")), first.mimeo.explain);
    const fresh = await client.images.generate({ ...asked, cache: { mode: "no-cache" } });
    assert.equal(fresh.mimeo.cache, "bypass");
    const kept = await client.images.generate({ ...asked, cache: { mode: "only-if-cached" } });
    assert.deepEqual(decoded(kept.data[0]), decoded(fresh.data[0]));
    assert.equal((await bills(prompt)).length, 2);
  },

  async "edit, one picture"() {
    const prompt = "node: make it night";
    const image = await client.images.edit({
      model, prompt, quality: "low", size: "1024x1024", image: await file("kite.png", 64, 64, [200, 30, 30, 255]),
    });
    assert.deepEqual(pixels(decoded(image.data[0])), [1024, 1024]);
    const lines = await bills(prompt);
    assert.deepEqual(lines.map((line) => line.operation), ["edit"]);
    assert.ok(image.usage.input_tokens_details.image_tokens > 0);
  },

  async "edit, several pictures"() {
    const prompt = "node: put them together";
    const image = [
      await file("one.png", 64, 64, [200, 30, 30, 255]),
      await file("two.png", 32, 48, [30, 30, 200, 255]),
      await file("three.png", 48, 48, [30, 200, 30, 255]),
    ];
    const asked = { model, prompt, quality: "low", size: "1024x1024" };
    const first = await client.images.edit({ ...asked, image });
    const { data: again, response } = await client.images.edit({ ...asked, image }).withResponse();
    assert.equal(response.headers.get("x-mimeo-cache"), "hit");
    assert.deepEqual(decoded(again.data[0]), decoded(first.data[0]));
    assert.equal((await bills(prompt)).length, 1);
  },

  async "edit, mask"() {
    const prompt = "node: only the sky";
    const image = await file("kite.png", 64, 64, [10, 200, 30, 255]);
    await client.images.edit({ model, prompt, quality: "low", image, mask: await file("m.png", 64, 64, [0, 0, 0, 0]) });
    const mask = await file("m.png", 32, 32, [0, 0, 0, 0]);
    const error = await raises(OpenAI.BadRequestError, () => client.images.edit({ model, prompt, image, mask }));
    assert.equal(error.param, "mask");
    assert.equal((await bills(prompt)).length, 1);
  },

  async "stream, generation"() {
    const prompt = "node: watch it grow [[latency=300]]";
    const asked = { model, prompt, size: "1024x1024", quality: "low", stream: true, partial_images: 2 };
    const events = await collect(client.images.generate(asked));
    checkStream(events, "image_generation");
    const stored = await collect(client.images.generate(asked));
    assert.deepEqual(stored.map((event) => event.type), ["image_generation.completed"]);
    assert.deepEqual(stored[0].usage, events.at(-1).usage);
    assert.equal((await bills(prompt)).length, 1);
  },

  async "stream, edit"() {
    const image = await file("kite.png", 64, 64, [1, 2, 3, 255]);
    const prompt = "node: watch it change";
    const asked = { model, prompt, image, size: "1024x1024", quality: "low", stream: true, partial_images: 2 };
    checkStream(await collect(client.images.edit(asked)), "image_edit");
    assert.equal((await bills(prompt)).length, 1);
  },

  async "stream, failing"() {
    const asked = { model, quality: "low", stream: true, partial_images: 1 };
    const refused = { ...asked, prompt: "node: refused [[refuse]]" };
    const error = await raises(OpenAI.BadRequestError, () => collect(client.images.generate(refused)));
    assert.equal(error.code, "moderation_blocked");
    const broken = { ...asked, prompt: "node: it breaks [[stream-error]][[latency=100]]" };
    await assert.rejects(collect(client.images.generate(broken)), OpenAI.APIError);
  },

  async "models"() {
    const names = (await collect(client.models.list())).map((entry) => entry.id);
    for (const name of [model, "sandbox/standard", "two", "template/article"]) {
      assert.ok(names.includes(name), `${name} is not among ${names}`);
      assert.equal((await client.models.retrieve(name)).id, name);
    }
    const error = await raises(OpenAI.NotFoundError, () => client.models.retrieve("no/such"));
    assert.equal(error.code, "model_not_found");
  },

  async "error, bad request"() {
    const prompt = "node: bad";
    for (const [more, param, code] of [
      [{ size: "9000x9000" }, "size", "invalid_value"],
      [{ n: 11 }, "n", "invalid_value"],
      [{ quality: "superb" }, "quality", "invalid_value"],
      [{ sise: "1024x1024" }, "sise", "unknown_parameter"],
      [{ cache: { mode: "sometimes" } }, "cache.mode", "invalid_value"],
    ]) {
      const error = await raises(OpenAI.BadRequestError, () => client.images.generate({ model, prompt, ...more }));
      assert.deepEqual([error.status, error.param, error.code, error.type], [400, param, code, "invalid_request_error"]);
      assert.match(error.requestID, /^req_/);
    }
    assert.equal((await bills(prompt)).length, 0);
  },

  async "error, authentication"() {
    const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong" });
    const prompt = "node: stranger";
    const error = await raises(OpenAI.AuthenticationError, () => stranger.images.generate({ model, prompt }));
    assert.equal(error.code, "invalid_api_key");
    const image = await file("kite.png", 512, 512, [200, 30, 30, 255]);
    await raises(OpenAI.AuthenticationError, () => stranger.images.edit({ model, prompt, image }));
    assert.equal((await bills(prompt)).length, 0);
  },

  async "error, not found"() {
    const asked = { model: "openai/gpt-image-22", prompt: "node: nobody" };
    const error = await raises(OpenAI.NotFoundError, () => client.images.generate(asked));
    assert.deepEqual([error.code, error.param], ["model_not_found", "model"]);
  },

  async "error, rate limit"() {
    const prompt = "node: too fast [[throttle=0.02]]";
    const error = await raises(OpenAI.RateLimitError, () =>
      client.images.generate({ model, prompt }, { maxRetries: 0 }));
    assert.equal(error.code, "rate_limit_exceeded");
    assert.equal((await bills(prompt)).length, 0);
    const dear = { model: "sandbox/premium", prompt: "node: too dear", size: "64x64", max_spend_usd: "0.03" };
    const over = await raises(OpenAI.RateLimitError, () => client.images.generate(dear));
    assert.equal(over.code, "max_spend_exceeded");
  },

  async "an unknown outcome is not repeated"() {
    for (const [n, fault] of ["bill-then-fail=504", "bill-then-reset", "garbage-json"].entries()) {
      const prompt = `node: lost ${n} [[${fault}]]`;
      const error = await raises(OpenAI.InternalServerError, () =>
        client.images.generate({ model, prompt, quality: "low" }, { maxRetries: 4 }));
      assert.deepEqual([error.status, error.code], [504, "outcome_unknown"]);
      assert.equal((await bills(prompt)).length, 1, fault);
    }
  },

  async "a deadline is repeated for free"() {
    const prompt = "node: slowly [[latency=900]]";
    const asked = { model: "sandbox/standard", prompt, size: "64x64", deadline_ms: 250 };
    const image = await client.images.generate(asked, { maxRetries: 8 });
    assert.ok(isPng(decoded(image.data[0])));
    assert.equal((await bills(prompt)).length, 1);
  },

  async "a hit costs nothing"() {
    const prompt = "node: the account";
    const ask = () => client.images.generate({ model, prompt, size: "1024x1024", quality: "low" }).withResponse();
    const miss = await ask();
    const hit = await ask();
    const header = (answer, name) => answer.response.headers.get(`x-mimeo-${name}`);
    const [line] = await bills(prompt);
    assert.deepEqual([header(miss, "cache"), header(hit, "cache")], ["miss", "hit"]);
    assert.equal(header(miss, "cost-usd"), line.usd);
    assert.deepEqual([header(hit, "cost-usd"), header(hit, "saved-usd")], ["0", line.usd]);
    assert.deepEqual(hit.data.usage, miss.data.usage);
    assert.notEqual(hit.request_id, miss.request_id);
  },

  async "twenty at once"() {
    const prompt = "node: twenty at once [[latency=150]]";
    const ask = () => client.images.generate({ model: "sandbox/standard", prompt, size: "64x64" });
    const images = await Promise.all(Array.from({ length: 20 }, ask));
    assert.equal(new Set(images.map((image) => image.data[0].b64_json)).size, 1);
    assert.equal((await bills(prompt)).length, 1);
  },
};

function checkStream(events, family) {
  const kinds = events.map((event) => event.type);
  assert.deepEqual(kinds, [`${family}.partial_image`, `${family}.partial_image`, `${family}.completed`]);
  assert.deepEqual(events.slice(0, 2).map((event) => event.partial_image_index), [0, 1]);
  for (const event of events) {
    assert.ok(isPng(decoded(event)));
    assert.deepEqual([event.size, event.output_format], ["1024x1024", "png"]);
    assert.ok(event.created_at > 0);
  }
  const { usage } = events.at(-1);
  assert.ok(usage.total_tokens > 0);
  assert.equal(usage.total_tokens, usage.input_tokens + usage.output_tokens);
}

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  const started = performance.now();
  try {
    await check();
    console.log(`ok ${name} (${((performance.now() - started) / 1000).toFixed(2)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}\n${error.stack}`);
  }
}
console.log(`openai ${JSON.parse(readFileSync(path.join(modules, "openai/package.json"))).version}, Node ${process.versions.node}`);
console.log(`${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exitCode = failed > 0 ? 1 : 0;
