// The official OpenAI JavaScript client, unmodified, through /openai-route: plain, streamed, tools, errors.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import test from "node:test";

const require = createRequire(`${process.env.CLIENTS_FOLDER}/package.json`);
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));

const model = "gpt-4.1";
const messages = [{ role: "user", content: "Who is Jimi Hendrix?" }];
const weather = [{ role: "user", content: "Use get_weather for Bonn" }];
const tools = [
  {
    type: "function",
    function: {
      name: "get_weather",
      parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    },
  },
];
const client = (apikey = "123456") =>
  new OpenAI({
    baseURL: `${process.env.DATA_PLANE_URL}/openai-route`,
    apiKey: "unused",
    defaultHeaders: { apikey },
    maxRetries: 0,
    timeout: 20_000,
  });
const chat = (body, options) => client().chat.completions.create({ model, messages, ...body }, options);

test("plain", async () => {
  const answer = await chat();
  assert.equal(answer.object, "chat.completion");
  assert.equal(answer.choices[0].finish_reason, "stop");
  assert.ok(answer.choices[0].message.content);
  assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
});

test("streamed", async () => {
  let text = "";
  let reason;
  for await (const chunk of await chat({ stream: true })) {
    text += chunk.choices[0].delta.content ?? "";
    reason = chunk.choices[0].finish_reason;
  }
  assert.equal(text, (await chat()).choices[0].message.content);
  assert.equal(reason, "stop");
});

test("streamed with usage", async () => {
  let last;
  for await (const chunk of await chat({ stream: true, stream_options: { include_usage: true } })) last = chunk;
  assert.ok(last.usage.completion_tokens > 0);
});

test("a stream that the client leaves", async () => {
  const stream = await chat({ stream: true }, { headers: { "x-mock-chunk-delay-ms": "20" } });
  for await (const chunk of stream) {
    assert.ok(chunk.choices);
    break;
  }
  assert.ok((await chat()).choices[0].message.content);
});

test("tools", async () => {
  const answer = await chat({ messages: weather, tools, tool_choice: "required" });
  const { message, finish_reason } = answer.choices[0];
  assert.equal(message.tool_calls[0].function.name, "get_weather");
  assert.equal(finish_reason, "tool_calls");
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "rain" };
  const final = await chat({ messages: [...weather, message, result], tools });
  assert.ok(final.choices[0].message.content);
});

test("streamed tools", async () => {
  let name = "";
  let args = "";
  for await (const chunk of await chat({ messages: weather, tools, tool_choice: "required", stream: true })) {
    const call = chunk.choices[0].delta.tool_calls?.[0];
    name += call?.function.name ?? "";
    args += call?.function.arguments ?? "";
  }
  assert.equal(name, "get_weather");
  assert.ok(JSON.parse(args));
});

test("no key is an authentication error", async () => {
  await assert.rejects(client("").chat.completions.create({ model, messages }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.status, 401);
    assert.match(error.message, /No API key found in request/);
    return true;
  });
});

test("another model is a bad request", async () => {
  await assert.rejects(chat({ model: "other" }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.match(error.message, /cannot use own model - must be: gpt-4\.1/);
    return true;
  });
});

for (const stream of [false, true]) {
  test(`the provider's error arrives, stream: ${stream}`, async () => {
    await assert.rejects(chat({ stream }, { headers: { "x-mock-status": "429" } }), (error) => {
      assert.ok(error instanceof OpenAI.RateLimitError);
      assert.equal(error.type, "rate_limit_exceeded");
      return true;
    });
  });
}

test("an answer that is none is a server error", async () => {
  await assert.rejects(chat({}, { headers: { "x-mock-malformed": "1" } }), (error) => {
    assert.ok(error instanceof OpenAI.InternalServerError);
    assert.match(error.message, /failed to decode llm\/v1\/chat response/);
    return true;
  });
});
