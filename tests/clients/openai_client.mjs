// The official OpenAI JavaScript client, unmodified, through /openai-route: plain, streamed, tools, errors.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import test from "node:test";

const require = createRequire(`${process.env.CLIENTS_FOLDER}/package.json`);
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));

const messages = [{ role: "user", content: "Who is Jimi Hendrix?" }];
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
  });

test("plain", async () => {
  const answer = await client().chat.completions.create({ model: "gpt-4.1", messages });
  assert.equal(answer.object, "chat.completion");
  assert.ok(answer.choices[0].message.content);
});

test("streamed", async () => {
  const stream = await client().chat.completions.create({ model: "gpt-4.1", messages, stream: true });
  let text = "";
  for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
  assert.ok(text.length > 0);
});

test("tools", async () => {
  const question = [{ role: "user", content: "Use get_weather for Bonn" }];
  const answer = await client().chat.completions.create({
    model: "gpt-4.1",
    messages: question,
    tools,
    tool_choice: "required",
  });
  assert.equal(answer.choices[0].message.tool_calls[0].function.name, "get_weather");
});

test("no key is an authentication error", async () => {
  await assert.rejects(client("").chat.completions.create({ model: "gpt-4.1", messages }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.status, 401);
    return true;
  });
});

test("another model is a bad request", async () => {
  await assert.rejects(client().chat.completions.create({ model: "other", messages }), OpenAI.BadRequestError);
});
