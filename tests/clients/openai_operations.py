"""The official OpenAI Python client, unmodified: responses, embeddings, images, audio, files, batches, models, realtime."""

import os
import unittest

import openai

URL = os.environ["GATEWAY_URL"]
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def client(base="openai", key="123456"):
    headers = {"apikey": key}
    return openai.OpenAI(base_url=f"{URL}/{base}", api_key="unused", default_headers=headers, max_retries=0, timeout=20)


class Responses(unittest.TestCase):
    """Passed to the provider, and sent to others as chats."""

    models = {"openai": "gpt-4.1", "claude": "claude-sonnet-4-5", "deepseek": "deepseek-chat"}

    def each(self):
        return [(base, client(base), model) for base, model in self.models.items()]

    def test_plain(self):
        for base, one, model in self.each():
            answer = one.responses.create(model=model, input="Who is Jimi Hendrix?")
            self.assertEqual((answer.object, answer.status), ("response", "completed"))
            self.assertIn("Jimi Hendrix", answer.output_text)
            self.assertEqual(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)

    def test_streamed(self):
        for base, one, model in self.each():
            plain = one.responses.create(model=model, input="Who is Jimi Hendrix?").output_text
            text, kinds, last = "", [], None
            for event in one.responses.create(model=model, input="Who is Jimi Hendrix?", stream=True):
                kinds.append(event.type)
                if event.type == "response.output_text.delta":
                    text += event.delta
                last = event
            self.assertEqual(text, plain)
            self.assertEqual((kinds[0], kinds[-1]), ("response.created", "response.completed"))
            self.assertEqual(last.response.output_text, plain)
            self.assertGreater(last.response.usage.output_tokens, 0)

    def test_stream_helper(self):
        for base, one, model in self.each():
            with one.responses.stream(model=model, input="Use get_weather for Bonn", tools=[WEATHER], tool_choice="required") as stream:
                for _ in stream:
                    pass
                self.assertEqual(stream.get_final_response().output[0].name, "get_weather")

    def test_tools(self):
        for base, one, model in self.each():
            question = [{"role": "user", "content": "Use get_weather for Bonn"}]
            answer = one.responses.create(model=model, input=question, tools=[WEATHER], tool_choice="required")
            call = answer.output[0]
            self.assertEqual((call.type, call.name), ("function_call", "get_weather"))
            question += answer.output
            question.append({"type": "function_call_output", "call_id": call.call_id, "output": "rain"})
            self.assertTrue(one.responses.create(model=model, input=question, tools=[WEATHER]).output_text)

    def test_errors(self):
        for base, one, model in self.each():
            for stream in (False, True):
                with self.assertRaises(openai.RateLimitError):
                    one.responses.create(model=model, input="a", stream=stream, extra_headers={"x-mock-status": "429"})
        with self.assertRaises(openai.AuthenticationError):
            client(key="wrong").responses.create(model="gpt-4.1", input="a")
        with self.assertRaises(openai.BadRequestError):
            client("claude").responses.create(model="claude-sonnet-4-5", input="a", previous_response_id="resp_1")

    def test_stored(self):
        one = client()
        self.assertEqual(one.responses.retrieve("resp_1").id, "resp_1")
        self.assertEqual(one.responses.cancel("resp_2").status, "cancelled")
        one.responses.delete("resp_3")


class Operations(unittest.TestCase):
    def test_embeddings(self):
        one = client()
        answer = one.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=16)
        self.assertEqual([len(item.embedding) for item in answer.data], [16, 16])
        self.assertGreater(answer.usage.prompt_tokens, 0)
        with self.assertRaises(openai.BadRequestError):
            one.embeddings.create(model="another", input="a")

    def test_images(self):
        one = client()
        made = one.images.generate(model="gpt-image-1", prompt="a pixel")
        self.assertTrue(made.data[0].b64_json)
        edited = one.images.edit(model="gpt-image-1", image=("a.png", b"png", "image/png"), prompt="another")
        self.assertTrue(edited.data[0].b64_json)
        with self.assertRaises(openai.BadRequestError) as caught:
            one.images.edit(model="dall-e-2", image=("a.png", b"png", "image/png"), prompt="another")
        self.assertIn("cannot use own model - must be: gpt-image-1", str(caught.exception))
        with self.assertRaises(openai.InternalServerError):
            one.images.generate(prompt="a", extra_headers={"x-mock-status": "500"})

    def test_audio(self):
        one = client()
        spoken = one.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="hello")
        self.assertIn(b"hello", spoken.read())
        with one.audio.speech.with_streaming_response.create(
            model="gpt-4o-mini-tts", voice="alloy", input="hello"
        ) as stream:
            self.assertIn(b"hello", b"".join(stream.iter_bytes()))
        heard = one.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.mp3", b"ID3" * 400_000))
        self.assertTrue(heard.text)
        self.assertTrue(one.audio.translations.create(model="whisper-1", file=("a.mp3", b"ID3")).text)
        with self.assertRaises(openai.BadRequestError):
            one.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"ID3"))

    def test_files_and_batches(self):
        one = client()
        file = one.files.create(file=("a.jsonl", b"{}\n" * 1_000_000), purpose="batch")
        self.assertEqual(file.bytes > 3_000_000, True)
        self.assertEqual(one.files.retrieve("file-1").id, "file-1")
        self.assertEqual([each.object for each in one.files.list()], ["file"])
        self.assertIn(b"mock", one.files.content("file-1").read())
        self.assertTrue(one.files.delete("file-1").deleted)
        batch = one.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        self.assertEqual(batch.input_file_id, file.id)
        self.assertEqual(one.batches.retrieve(batch.id).id, batch.id)
        self.assertEqual(one.batches.cancel(batch.id).status, "cancelling")
        self.assertEqual(len(one.batches.list().data), 1)
        with self.assertRaises(openai.BadRequestError):
            one.batches.create(input_file_id="", endpoint="/v1/chat/completions", completion_window="24h")

    def test_models(self):
        models = client().models.list()
        self.assertEqual([model.id for model in models], ["gpt-4.1", "small"])
        self.assertEqual(client().models.retrieve("small").owned_by, "openai")
        with self.assertRaises(openai.NotFoundError):
            client().models.retrieve("gpt-4.1-mini")

    def test_realtime(self):
        with client().realtime.connect(model="gpt-realtime", extra_headers={"apikey": "123456"}) as connection:
            connection.response.create()
            kinds = []
            for event in connection:
                kinds.append(event.type)
                if event.type == "response.done":
                    break
        self.assertEqual(kinds[0], "session.created")
        self.assertIn("response.output_text.delta", kinds)

    def test_realtime_without_key_or_with_another_model(self):
        for model, key in (("gpt-realtime", "wrong"), ("another", "123456")):
            with self.subTest(model=model), self.assertRaises(Exception) as caught:
                with client(key=key).realtime.connect(model=model, extra_headers={"apikey": key}):
                    pass
            self.assertRegex(str(caught.exception), "HTTP 40[01]")


if __name__ == "__main__":
    unittest.main()
