"""Official clients that do not speak OpenAI's format, and LangChain's, unmodified: plain, streamed, tools, errors."""

import os
import unittest

import anthropic
import boto3
import botocore.config
import botocore.exceptions
import cohere
from google import genai
from google.genai import errors, types
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

URL = os.environ["GATEWAY_URL"]
KEY = {"apikey": "123456"}
QUESTION = "Who is Jimi Hendrix?"
WEATHER = "Use get_weather for Bonn"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LIMIT = {"x-mock-status": "429"}


class Anthropic(unittest.TestCase):
    """To Anthropic, and to a provider that speaks OpenAI's format."""

    def each(self):
        for provider, model in (("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-4.1")):
            client = anthropic.Anthropic(
                base_url=f"{URL}/messages/{provider}", api_key="own", default_headers=KEY, max_retries=0, timeout=20
            )
            yield client.messages, {"model": model, "max_tokens": 100}

    def test_plain(self):
        for messages, asked in list(self.each()):
            answer = messages.create(messages=[{"role": "user", "content": QUESTION}], **asked)
            self.assertEqual((answer.type, answer.stop_reason), ("message", "end_turn"))
            self.assertIn("Jimi Hendrix", answer.content[0].text)
            self.assertGreater(answer.usage.input_tokens, 0)

    def test_streamed(self):
        for messages, asked in list(self.each()):
            question = [{"role": "user", "content": QUESTION}]
            plain = messages.create(messages=question, **asked)
            with messages.stream(messages=question, **asked) as stream:
                self.assertEqual("".join(stream.text_stream), plain.content[0].text)
                final = stream.get_final_message()
            self.assertEqual(final.stop_reason, "end_turn")
            self.assertGreater(final.usage.output_tokens, 0)

    def test_tools(self):
        for messages, asked in list(self.each()):
            asked["tools"] = [{"name": "get_weather", "description": "Weather", "input_schema": CITY}]
            question = [{"role": "user", "content": WEATHER}]
            answer = messages.create(messages=question, tool_choice={"type": "any"}, **asked)
            use = answer.content[-1]
            self.assertEqual((answer.stop_reason, use.type, use.name), ("tool_use", "tool_use", "get_weather"))
            with messages.stream(messages=question, tool_choice={"type": "any"}, **asked) as stream:
                self.assertEqual(stream.get_final_message().content[-1].input, use.input)
            question.append({"role": "assistant", "content": answer.content})
            result = {"type": "tool_result", "tool_use_id": use.id, "content": "rain"}
            question.append({"role": "user", "content": [result]})
            self.assertTrue(messages.create(messages=question, **asked).content[0].text)

    def test_tokens_are_counted(self):
        for messages, asked in list(self.each()):
            counted = messages.count_tokens(
                model=asked["model"], messages=[{"role": "user", "content": QUESTION}]
            )
            self.assertGreater(counted.input_tokens, 0)

    def test_errors(self):
        for messages, asked in list(self.each()):
            question = [{"role": "user", "content": QUESTION}]
            with self.assertRaises(anthropic.RateLimitError) as caught:
                messages.create(messages=question, extra_headers=LIMIT, **asked)
            self.assertEqual(caught.exception.body["type"], "error")
            with self.assertRaises(anthropic.RateLimitError):
                messages.create(messages=question, stream=True, extra_headers=LIMIT, **asked)
            with self.assertRaises(anthropic.AuthenticationError):
                messages.create(messages=question, extra_headers={"apikey": "wrong"}, **asked)


def bedrock(**more):
    client = boto3.client(
        "bedrock-runtime",
        region_name="eu-west-1",
        endpoint_url=f"{URL}/bedrock",
        aws_access_key_id="own",
        aws_secret_access_key="own",
        config=botocore.config.Config(retries={"max_attempts": 1}),
    )

    def add(params, **_):
        params["headers"].update({**KEY, **more})

    client.meta.events.register("before-call.bedrock-runtime.*", add)
    return client


class Bedrock(unittest.TestCase):
    asked = {"modelId": "amazon.nova-pro-v1:0", "messages": [{"role": "user", "content": [{"text": QUESTION}]}]}
    tools = {
        "tools": [{"toolSpec": {"name": "get_weather", "description": "w", "inputSchema": {"json": CITY}}}],
        "toolChoice": {"any": {}},
    }

    def test_plain(self):
        answer = bedrock().converse(**self.asked)
        self.assertIn("Jimi Hendrix", answer["output"]["message"]["content"][0]["text"])
        self.assertEqual(answer["stopReason"], "end_turn")
        self.assertGreater(answer["usage"]["totalTokens"], 0)

    def test_streamed(self):
        plain = bedrock().converse(**self.asked)["output"]["message"]["content"][0]["text"]
        events = list(bedrock().converse_stream(**self.asked)["stream"])
        text = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
        self.assertEqual("".join(text), plain)
        self.assertIn("metadata", events[-1])

    def test_tools(self):
        asked = {**self.asked, "messages": [{"role": "user", "content": [{"text": WEATHER}]}]}
        answer = bedrock().converse(toolConfig=self.tools, **asked)
        self.assertEqual(answer["stopReason"], "tool_use")
        self.assertEqual(answer["output"]["message"]["content"][-1]["toolUse"]["name"], "get_weather")
        events = list(bedrock().converse_stream(toolConfig=self.tools, **asked)["stream"])
        starts = [event["contentBlockStart"] for event in events if "contentBlockStart" in event]
        self.assertEqual(starts[0]["start"]["toolUse"]["name"], "get_weather")

    def test_errors(self):
        for call in ("converse", "converse_stream"):
            with self.assertRaises(botocore.exceptions.ClientError) as caught:
                getattr(bedrock(**LIMIT), call)(**self.asked)
            self.assertEqual(caught.exception.response["Error"]["Code"], "ThrottlingException")
            with self.assertRaises(botocore.exceptions.ClientError) as caught:
                getattr(bedrock(apikey="wrong"), call)(**self.asked)
            self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 401)


class Gemini(unittest.TestCase):
    def client(self, **more):
        options = types.HttpOptions(base_url=f"{URL}/gemini", headers={**KEY, **more})
        # It closes when nothing holds it.
        self.held = genai.Client(api_key="own", http_options=options)
        return self.held.models

    tools = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[{"name": "get_weather", "description": "w", "parameters_json_schema": CITY}])],
        tool_config=types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY")),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )

    def test_plain_and_streamed(self):
        answer = self.client().generate_content(model="gemini-2.5-flash", contents=QUESTION)
        self.assertIn("Jimi Hendrix", answer.text)
        self.assertGreater(answer.usage_metadata.total_token_count, 0)
        pieces = list(self.client().generate_content_stream(model="gemini-2.5-flash", contents=QUESTION))
        self.assertEqual("".join(piece.text or "" for piece in pieces), answer.text)

    def test_tools(self):
        asked = {"model": "gemini-2.5-flash", "contents": WEATHER, "config": self.tools}
        self.assertEqual(self.client().generate_content(**asked).function_calls[0].name, "get_weather")
        pieces = list(self.client().generate_content_stream(**asked))
        names = [call.name for piece in pieces for call in piece.function_calls or []]
        self.assertEqual(names, ["get_weather"])

    def test_errors(self):
        for more, status in ((LIMIT, 429), ({"apikey": "wrong"}, 401)):
            with self.assertRaises(errors.ClientError) as caught:
                self.client(**more).generate_content(model="gemini-2.5-flash", contents=QUESTION)
            self.assertEqual(caught.exception.code, status)
            with self.assertRaises(errors.ClientError) as caught:
                list(self.client(**more).generate_content_stream(model="gemini-2.5-flash", contents=QUESTION))
            self.assertEqual(caught.exception.code, status)


class Cohere(unittest.TestCase):
    """To Cohere, and to a provider that speaks OpenAI's format."""

    def each(self):
        for base, model in (("cohere", "command-a-03-2025"), ("cohere-openai", "gpt-4.1")):
            yield cohere.ClientV2(api_key="own", base_url=f"{URL}/{base}"), {"model": model}

    def options(self, **more):
        return {"additional_headers": {**KEY, **more}, "max_retries": 0}

    def test_plain_and_streamed(self):
        for client, asked in list(self.each()):
            question = [{"role": "user", "content": QUESTION}]
            answer = client.chat(messages=question, request_options=self.options(), **asked)
            text = answer.message.content[0].text
            self.assertIn("Jimi Hendrix", text)
            events = list(client.chat_stream(messages=question, request_options=self.options(), **asked))
            pieces = [event.delta.message.content.text for event in events if event.type == "content-delta"]
            self.assertEqual("".join(pieces), text)
            self.assertEqual(events[-1].type, "message-end")

    def test_tools(self):
        weather = {"type": "function", "function": {"name": "get_weather", "description": "w", "parameters": CITY}}
        for client, asked in list(self.each()):
            asked.update(messages=[{"role": "user", "content": WEATHER}], tools=[weather], tool_choice="REQUIRED")
            answer = client.chat(request_options=self.options(), **asked)
            self.assertEqual(answer.message.tool_calls[0].function.name, "get_weather")
            events = list(client.chat_stream(request_options=self.options(), **asked))
            names = [event.delta.message.tool_calls.function.name for event in events if event.type == "tool-call-start"]
            self.assertEqual(names, ["get_weather"])

    def test_errors(self):
        question = [{"role": "user", "content": QUESTION}]
        for client, asked in list(self.each()):
            with self.assertRaises(cohere.TooManyRequestsError):
                client.chat(messages=question, request_options=self.options(**LIMIT), **asked)
            with self.assertRaises(cohere.UnauthorizedError):
                client.chat(messages=question, request_options=self.options(apikey="wrong"), **asked)


class LangChain(unittest.TestCase):
    def client(self, **more):
        return ChatOpenAI(
            model="gpt-4.1",
            base_url=f"{URL}/openai",
            api_key="own",
            default_headers={**KEY, **more},
            max_retries=0,
            timeout=20,
        )

    def test_plain_and_streamed(self):
        answer = self.client().invoke(QUESTION)
        self.assertIn("Jimi Hendrix", answer.text)
        self.assertGreater(answer.usage_metadata["total_tokens"], 0)
        self.assertEqual("".join(piece.text for piece in self.client().stream(QUESTION)), answer.text)

    def test_tools(self):
        @tool
        def get_weather(city: str) -> str:
            """The weather in a city"""
            return "rain"

        client = self.client().bind_tools([get_weather], tool_choice="any")
        self.assertEqual(client.invoke(WEATHER).tool_calls[0]["name"], "get_weather")
        pieces = list(client.stream(WEATHER))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        self.assertEqual(whole.tool_calls[0]["name"], "get_weather")

    def test_errors(self):
        for more, status in ((LIMIT, 429), ({"apikey": "wrong"}, 401)):
            with self.assertRaises(Exception) as caught:
                self.client(**more).invoke(QUESTION)
            self.assertEqual(caught.exception.status_code, status)


if __name__ == "__main__":
    unittest.main()
