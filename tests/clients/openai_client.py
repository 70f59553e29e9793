"""The official OpenAI Python client, unmodified, through /openai-route: plain, streamed, tools, errors."""

import asyncio
import os
import unittest

import openai

URL = os.environ["DATA_PLANE_URL"]
QUESTION = [{"role": "user", "content": "Who is Jimi Hendrix?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def client(key="123456", **more):
    return openai.OpenAI(
        base_url=f"{URL}/openai-route", api_key="unused", default_headers={"apikey": key}, max_retries=0, timeout=20, **more
    )


class OpenAiClient(unittest.TestCase):
    def test_plain(self):
        answer = client().chat.completions.create(model="gpt-4.1", messages=QUESTION)
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertTrue(answer.choices[0].message.content)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)

    def test_streamed(self):
        chunks = list(client().chat.completions.create(model="gpt-4.1", messages=QUESTION, stream=True))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        plain = client().chat.completions.create(model="gpt-4.1", messages=QUESTION)
        self.assertEqual(text, plain.choices[0].message.content)
        self.assertEqual([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop")

    def test_streamed_usage(self):
        options = {"include_usage": True}
        chunks = list(
            client().chat.completions.create(
                model="gpt-4.1", messages=QUESTION, stream=True, stream_options=options
            )
        )
        self.assertGreater(chunks[-1].usage.completion_tokens, 0)

    def test_tools(self):
        question = [{"role": "user", "content": "Use get_weather for Bonn"}]
        answer = client().chat.completions.create(
            model="gpt-4.1", messages=question, tools=[WEATHER], tool_choice="required"
        )
        call = answer.choices[0].message.tool_calls[0]
        self.assertEqual(call.function.name, "get_weather")
        self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
        question += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
        final = client().chat.completions.create(model="gpt-4.1", messages=question, tools=[WEATHER])
        self.assertTrue(final.choices[0].message.content)

    def test_streamed_tools(self):
        question = [{"role": "user", "content": "Use get_weather for Bonn"}]
        chunks = client().chat.completions.create(
            model="gpt-4.1", messages=question, tools=[WEATHER], tool_choice="required", stream=True
        )
        names, arguments = [], ""
        for chunk in chunks:
            for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                names += [call.function.name] if call.function.name else []
                arguments += call.function.arguments or ""
        self.assertEqual(names, ["get_weather"])
        self.assertTrue(arguments.startswith("{") and arguments.endswith("}"))

    def test_many_at_once(self):
        async def ask():
            options = {"base_url": f"{URL}/openai-route", "api_key": "unused", "default_headers": {"apikey": "123456"}}
            async with openai.AsyncOpenAI(**options, max_retries=0, timeout=20) as many:
                create = many.chat.completions.create
                return await asyncio.gather(*(create(model="gpt-4.1", messages=QUESTION) for _ in range(20)))

        for answer in asyncio.run(ask()):
            self.assertTrue(answer.choices[0].message.content)

    def test_a_stream_that_the_client_leaves(self):
        one = client()
        slow = {"x-mock-chunk-delay-ms": "20"}
        with one.chat.completions.create(
            model="gpt-4.1", messages=QUESTION, stream=True, extra_headers=slow
        ) as stream:
            next(iter(stream))
        self.assertTrue(one.chat.completions.create(model="gpt-4.1", messages=QUESTION).choices)

    def test_no_key_is_an_authentication_error(self):
        with self.assertRaises(openai.AuthenticationError) as caught:
            client("").chat.completions.create(model="gpt-4.1", messages=QUESTION)
        self.assertEqual(caught.exception.status_code, 401)
        self.assertIn("No API key found in request", str(caught.exception))

    def test_another_model_is_a_bad_request(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            client().chat.completions.create(model="gpt-3.5-turbo", messages=QUESTION)
        self.assertIn("cannot use own model - must be: gpt-4.1", str(caught.exception))

    def test_the_providers_error_arrives(self):
        for stream in (False, True):
            with self.subTest(stream=stream), self.assertRaises(openai.RateLimitError) as caught:
                client().chat.completions.create(
                    model="gpt-4.1", messages=QUESTION, stream=stream, extra_headers={"x-mock-status": "429"}
                )
            self.assertEqual(caught.exception.type, "rate_limit_exceeded")

    def test_an_answer_that_is_none_is_a_server_error(self):
        with self.assertRaises(openai.InternalServerError) as caught:
            client().chat.completions.create(
                model="gpt-4.1", messages=QUESTION, extra_headers={"x-mock-malformed": "1"}
            )
        self.assertIn("failed to decode llm/v1/chat response", str(caught.exception))

    def test_a_stream_that_breaks_off_is_an_error(self):
        stream = client().chat.completions.create(
            model="gpt-4.1", messages=QUESTION, stream=True, extra_headers={"x-mock-abort-after": "2"}
        )
        with self.assertRaises(Exception) as caught:
            list(stream)
        self.assertNotIsInstance(caught.exception, AssertionError)


if __name__ == "__main__":
    unittest.main()
