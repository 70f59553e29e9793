// The official OpenAI JavaScript client, unmodified: responses, embeddings, images, audio, files, batches, models, realtime.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import test from "node:test";

const require = createRequire(`${process.env.CLIENTS_FOLDER}/package.json`);
const { default: OpenAI, toFile } = await import(pathToFileURL(require.resolve("openai")));
const { OpenAIRealtimeWS } = await import(pathToFileURL(require.resolve("openai/realtime/ws")));

const client = (base = "openai", apikey = "123456") =>
  new OpenAI({
    baseURL: `${process.env.GATEWAY_URL}/${base}`,
    apiKey: "unused",
    defaultHeaders: { apikey },
    maxRetries: 0,
    timeout: 20_000,
  });
const tools = [
  {
    type: "function",
    name: "get_weather",
    strict: false,
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];
const status = (expected) => (error) => error.status === expected;
const limit = { headers: { "x-mock-status": "429" } };

for (const [base, model] of [
  ["openai", "gpt-4.1"],
  ["claude", "claude-sonnet-4-5"],
  ["deepseek", "deepseek-chat"],
]) {
  const { responses } = client(base);
  test(`responses of ${base}`, async () => {
    const plain = await responses.create({ model, input: "Who is Jimi Hendrix?" });
    assert.equal(plain.status, "completed");
    assert.match(plain.output_text, /Jimi Hendrix/);
    let text = "";
    let last;
    for await (const event of await responses.create({ model, input: "Who is Jimi Hendrix?", stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(text, plain.output_text);
    assert.equal(last.type, "response.completed");
    assert.ok(last.response.usage.output_tokens > 0);
  });
  test(`tools of ${base}`, async () => {
    const input = [{ role: "user", content: "Use get_weather for Bonn" }];
    const answer = await responses.create({ model, input, tools, tool_choice: "required" });
    const [call] = answer.output;
    assert.deepEqual([call.type, call.name], ["function_call", "get_weather"]);
    const final = await responses.create({
      model,
      input: [...input, ...answer.output, { type: "function_call_output", call_id: call.call_id, output: "rain" }],
      tools,
    });
    assert.ok(final.output_text);
    const streamed = await responses.stream({ model, input, tools, tool_choice: "required" }).finalResponse();
    assert.equal(streamed.output[0].name, "get_weather");
  });
  test(`errors of ${base}`, async () => {
    for (const stream of [false, true]) {
      await assert.rejects(responses.create({ model, input: "a", stream }, limit), status(429));
    }
    await assert.rejects(client(base, "wrong").responses.create({ model, input: "a" }), status(401));
  });
}

test("embeddings", async () => {
  const answer = await client().embeddings.create({ model: "text-embedding-3-small", input: ["a", "b"], dimensions: 16 });
  assert.deepEqual(answer.data.map((item) => item.embedding.length), [16, 16]);
  await assert.rejects(client().embeddings.create({ model: "another", input: "a" }), status(400));
});

test("images", async () => {
  const { images } = client();
  const model = "gpt-image-1";
  assert.ok((await images.generate({ model, prompt: "a pixel" })).data[0].b64_json);
  const image = await toFile(Buffer.from("png"), "a.png", { type: "image/png" });
  assert.ok((await images.edit({ model, image, prompt: "another" })).data[0].b64_json);
  await assert.rejects(images.edit({ model: "dall-e-2", image, prompt: "another" }), status(400));
});

test("audio", async () => {
  const { audio } = client();
  const spoken = await audio.speech.create({ model: "gpt-4o-mini-tts", voice: "alloy", input: "hello" });
  assert.match(Buffer.from(await spoken.arrayBuffer()).toString(), /hello/);
  const file = await toFile(Buffer.alloc(1_200_000, "ID3"), "a.mp3");
  assert.ok((await audio.transcriptions.create({ model: "gpt-4o-transcribe", file })).text);
  assert.ok((await audio.translations.create({ model: "whisper-1", file })).text);
  await assert.rejects(audio.transcriptions.create({ model: "another", file }), status(400));
});

test("files and batches", async () => {
  const { files, batches } = client();
  const file = await files.create({ file: await toFile(Buffer.alloc(3_000_000, "{}\n"), "a.jsonl"), purpose: "batch" });
  assert.equal((await files.retrieve("file-1")).id, "file-1");
  assert.match(await (await files.content("file-1")).text(), /mock/);
  assert.ok((await files.delete("file-1")).deleted);
  const asked = { input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" };
  const batch = await batches.create(asked);
  assert.equal((await batches.cancel(batch.id)).status, "cancelling");
  await assert.rejects(batches.create({ ...asked, input_file_id: "" }), status(400));
});

test("models", async () => {
  const { models } = client();
  const names = [];
  for await (const model of models.list()) names.push(model.id);
  assert.deepEqual(names, ["gpt-4.1", "small"]);
  assert.equal((await models.retrieve("small")).owned_by, "openai");
  await assert.rejects(models.retrieve("gpt-4.1-mini"), status(404));
});

// This client's WebSockets are always TLS; the gateway's certificate is its own.
const connect = (apikey) => {
  const options = { headers: { apikey }, rejectUnauthorized: false };
  const secure = new OpenAI({ baseURL: `${process.env.GATEWAY_TLS_URL}/openai`, apiKey: "unused" });
  return new OpenAIRealtimeWS({ model: "gpt-realtime", options }, secure);
};

test("realtime", async () => {
  const socket = connect("123456");
  const kinds = [];
  await new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("event", (event) => {
      kinds.push(event.type);
      if (event.type === "session.created") socket.send({ type: "response.create" });
      if (event.type === "response.done") resolve();
    });
  });
  socket.close();
  assert.ok(kinds.includes("response.output_text.delta"));
  const refused = connect("wrong");
  const error = await new Promise((resolve) => refused.on("error", resolve));
  assert.match(error.message, /401/);
});
