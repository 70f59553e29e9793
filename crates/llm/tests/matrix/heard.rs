//! What an answer says to a client, read by what the documentation of its format says, and by nothing of ours: a
//! second opinion on what is written.

use regex::Regex;
use serde_json::Value;

/// What an answer says, whatever its format.
#[derive(Debug, Default, PartialEq)]
pub struct Heard {
    pub text: String,
    pub calls: Vec<Called>,
    /// Of the prompt and of the answer.
    pub tokens: (u64, u64),
    /// In the format's own word.
    pub finish: String,
}

#[derive(Debug, Default, PartialEq)]
pub struct Called {
    pub id: String,
    pub name: String,
    pub arguments: Value,
}

/// For each format the order of its events' names ([`name`]): of whole answers, and of those that break off with an
/// error.
const ORDERS: [(&str, &str, &str); 7] = [
    // Hugging Face's servers say the role with every piece.
    ("openai", "(role )?(text )*(call (arguments )+)*finish usage done ", "(role )?(text )+error "),
    (
        "responses",
        "created in_progress (output_item.added (content_part.added (output_text.delta )+output_text.done content_part.done |(function_call_arguments.delta )+function_call_arguments.done )output_item.done )+(completed|incomplete) ",
        "created in_progress output_item.added content_part.added (output_text.delta )+failed ",
    ),
    (
        "anthropic",
        "message_start (content_block_start (ping )?(content_block_delta )+content_block_stop )+message_delta message_stop ",
        "message_start content_block_start (ping )?(content_block_delta )+error ",
    ),
    (
        "bedrock",
        "messageStart ((contentBlockStart )?(contentBlockDelta )+contentBlockStop )+messageStop metadata ",
        "messageStart (contentBlockDelta )+!(internalServer|modelStreamError|validation|throttling|serviceUnavailable)Exception ",
    ),
    ("gemini", "(part )*last ", "(part )+error "),
    (
        "cohere",
        "message-start (tool-plan-delta )*(content-start (content-delta )+content-end )?(tool-call-start (tool-call-delta )+tool-call-end )*message-end ",
        "message-start content-start (content-delta )+message-end ",
    ),
    ("huggingface", "(token )*last ", "(token )+error "),
];

/// Says what is wrong with the order of events; nothing where they come as documented.
pub fn disorder(format: &str, events: &[Value], breaks_off: bool) -> Option<String> {
    let (_, whole, broken) = ORDERS.iter().find(|(name, ..)| *name == format).unwrap();
    let order = if breaks_off { broken } else { whole };
    let names: String = events.iter().map(|event| name(format, event) + " ").collect();
    let fits = Regex::new(&format!("^(?:{order})$")).unwrap().is_match(&names);
    if !fits {
        return Some(format!("{names} for {order}"));
    }
    miscounted(format, events)
}

/// What an event is called; those of formats without names for them are called by what they hold.
fn name(format: &str, event: &Value) -> String {
    let own = match format {
        "openai" => of_chunk(event),
        "gemini" if !event["error"].is_null() => "error",
        "gemini" if event["candidates"][0]["finishReason"].is_string() => "last",
        "gemini" if event["candidates"][0]["content"]["parts"].is_array() => "part",
        "bedrock" => event[0].as_str().unwrap(),
        "huggingface" if event["error"].is_string() => "error",
        "huggingface" if event["generated_text"].is_string() => "last",
        "huggingface" if event["token"]["text"].is_string() => "token",
        _ => event["type"].as_str().unwrap_or("unknown").trim_start_matches("response."),
    };
    own.to_owned()
}

fn of_chunk(chunk: &Value) -> &'static str {
    let choice = &chunk["choices"][0];
    let delta = &choice["delta"];
    match chunk {
        _ if chunk == "[DONE]" => "done",
        _ if !chunk["error"].is_null() => "error",
        _ if chunk["object"] != "chat.completion.chunk" => "unknown",
        _ if choice.is_null() && chunk["usage"].is_object() => "usage",
        _ if choice["finish_reason"].is_string() => "finish",
        _ if delta["tool_calls"][0]["id"].is_string() => "call",
        _ if delta["tool_calls"][0]["function"]["arguments"].is_string() => "arguments",
        _ if delta["content"].as_str().is_some_and(|text| !text.is_empty()) => "text",
        _ if delta["role"] == "assistant" => "role",
        _ if delta["content"].is_string() => "text",
        _ => "unknown",
    }
}

/// Numbers of events, items, blocks and calls count up from 0.
fn miscounted(format: &str, events: &[Value]) -> Option<String> {
    let mut ended = 0;
    let mut begun = 0;
    for (at, event) in events.iter().enumerate() {
        let name = name(format, event);
        begun += u64::from(format == "openai" && name == "call");
        let (says, counts) = match format {
            "openai" => (&event["choices"][0]["delta"]["tool_calls"][0]["index"], begun.saturating_sub(1)),
            "responses" => (&event["output_index"], ended),
            "bedrock" => (&event[1]["contentBlockIndex"], ended),
            // Cohere counts contents and calls each for themselves.
            "cohere" if name.starts_with("tool-call") => (&event["index"], ended),
            "anthropic" => (&event["index"], ended),
            _ => (&Value::Null, 0),
        };
        if says.as_u64().is_some_and(|says| says != counts) {
            return Some(format!("{says} is not {counts} in {event}"));
        }
        if format == "huggingface" && name != "error" && event["index"] != at as u64 + 1 {
            return Some(format!("{at} is not the number of {event}"));
        }
        if format == "responses" && event["sequence_number"] != at as u64 {
            return Some(format!("{at} is not the number of {event}"));
        }
        let ends = ["output_item.done", "content_block_stop", "contentBlockStop", "tool-call-end"];
        ended += u64::from(ends.contains(&&*name));
    }
    None
}

/// Reads a whole answer.
pub fn whole(format: &str, answer: &Value) -> Heard {
    let mut heard = Heard::default();
    match format {
        "openai" => {
            let choice = &answer["choices"][0];
            heard.say(&choice["message"]["content"]);
            for call in list(&choice["message"]["tool_calls"]) {
                heard.call(&call["id"], &call["function"]["name"], &call["function"]["arguments"]);
            }
            heard.end(&choice["finish_reason"], &answer["usage"], ["prompt_tokens", "completion_tokens"]);
        }
        "responses" => {
            for item in list(&answer["output"]) {
                match item["type"].as_str().unwrap() {
                    "message" => list(&item["content"]).iter().for_each(|part| heard.say_part(&part["text"])),
                    "function_call" => heard.call(&item["call_id"], &item["name"], &item["arguments"]),
                    other => panic!("{other}"),
                }
            }
            heard.end(&answer["status"], &answer["usage"], ["input_tokens", "output_tokens"]);
        }
        "anthropic" => {
            for block in list(&answer["content"]) {
                match block["type"].as_str().unwrap() {
                    "text" => heard.say_part(&block["text"]),
                    "tool_use" => heard.call(&block["id"], &block["name"], &block["input"]),
                    other => panic!("{other}"),
                }
            }
            heard.end(&answer["stop_reason"], &answer["usage"], ["input_tokens", "output_tokens"]);
        }
        "bedrock" => {
            for block in list(&answer["output"]["message"]["content"]) {
                if block["text"].is_string() {
                    heard.say_part(&block["text"]);
                }
                if let Some(call) = block["toolUse"].as_object() {
                    heard.call(&call["toolUseId"], &call["name"], &call["input"]);
                }
            }
            heard.end(&answer["stopReason"], &answer["usage"], ["inputTokens", "outputTokens"]);
        }
        "gemini" => {
            let candidate = &answer["candidates"][0];
            for part in list(&candidate["content"]["parts"]) {
                heard.say(&part["text"]);
                if let Some(call) = part["functionCall"].as_object() {
                    let id = call.get("id").unwrap_or(&Value::Null);
                    heard.call(id, &call["name"], &call["args"]);
                }
            }
            let counts = ["promptTokenCount", "candidatesTokenCount"];
            heard.end(&candidate["finishReason"], &answer["usageMetadata"], counts);
        }
        "cohere" => {
            let message = &answer["message"];
            heard.say(&message["tool_plan"]);
            list(&message["content"]).iter().for_each(|part| heard.say(&part["text"]));
            for call in list(&message["tool_calls"]) {
                heard.call(&call["id"], &call["function"]["name"], &call["function"]["arguments"]);
            }
            let counts = ["input_tokens", "output_tokens"];
            heard.end(&answer["finish_reason"], &answer["usage"]["billed_units"], counts);
        }
        "huggingface" => {
            heard.say(&answer["generated_text"]);
            heard.detail(&answer["details"]);
        }
        other => panic!("{other}"),
    }
    heard
}

/// Reads a streamed answer.
pub fn streamed(format: &str, events: &[Value]) -> Heard {
    let mut heard = Heard::default();
    // Arguments come in pieces of the call that began last.
    let mut arguments: Vec<String> = Vec::new();
    let grow = |arguments: &mut Vec<String>, piece: &Value| {
        if let (Some(last), Some(piece)) = (arguments.last_mut(), piece.as_str()) {
            last.push_str(piece);
        }
    };
    for event in events {
        match format {
            "openai" => {
                let choice = &event["choices"][0];
                heard.say(&choice["delta"]["content"]);
                let call = &choice["delta"]["tool_calls"][0];
                if call["id"].is_string() {
                    heard.call(&call["id"], &call["function"]["name"], &Value::Null);
                    arguments.push(String::new());
                }
                grow(&mut arguments, &call["function"]["arguments"]);
                let counts = ["prompt_tokens", "completion_tokens"];
                heard.end(&choice["finish_reason"], &event["usage"], counts);
            }
            "responses" => match event["type"].as_str().unwrap() {
                "response.output_text.delta" => heard.say(&event["delta"]),
                "response.output_item.added" if event["item"]["type"] == "function_call" => {
                    heard.call(&event["item"]["call_id"], &event["item"]["name"], &Value::Null);
                    arguments.push(String::new());
                }
                "response.function_call_arguments.delta" => grow(&mut arguments, &event["delta"]),
                // The last event tells the whole answer once more.
                "response.completed" | "response.incomplete" => {
                    let last = whole(format, &event["response"]);
                    assert_eq!(last.text, heard.text);
                    assert_eq!(last.calls.len(), heard.calls.len());
                    (heard.finish, heard.tokens) = (last.finish, last.tokens);
                }
                _ => {}
            },
            "anthropic" => {
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    heard.call(&block["id"], &block["name"], &Value::Null);
                    arguments.push(String::new());
                }
                heard.say(&event["delta"]["text"]);
                grow(&mut arguments, &event["delta"]["partial_json"]);
                heard.end(&event["delta"]["stop_reason"], &event["usage"], ["input_tokens", "output_tokens"]);
            }
            "bedrock" => {
                let event = &event[1];
                let call = &event["start"]["toolUse"];
                if call.is_object() {
                    heard.call(&call["toolUseId"], &call["name"], &Value::Null);
                    arguments.push(String::new());
                }
                heard.say(&event["delta"]["text"]);
                grow(&mut arguments, &event["delta"]["toolUse"]["input"]);
                heard.end(&event["stopReason"], &event["usage"], ["inputTokens", "outputTokens"]);
            }
            "gemini" => {
                let element = whole(format, event);
                heard.text.push_str(&element.text);
                heard.calls.extend(element.calls);
                (heard.finish, heard.tokens) = (element.finish, element.tokens);
            }
            "cohere" => {
                let message = &event["delta"]["message"];
                heard.say(&message["tool_plan"]);
                heard.say(&message["content"]["text"]);
                let call = &message["tool_calls"];
                if call["id"].is_string() {
                    heard.call(&call["id"], &call["function"]["name"], &Value::Null);
                    arguments.push(String::new());
                }
                grow(&mut arguments, &call["function"]["arguments"]);
                let (delta, counts) = (&event["delta"], ["input_tokens", "output_tokens"]);
                heard.end(&delta["finish_reason"], &delta["usage"]["billed_units"], counts);
            }
            "huggingface" => {
                let token = &event["token"];
                assert!(token["id"].is_u64() && token["logprob"].is_number(), "{token}");
                if token["special"] == false {
                    heard.say(&token["text"]);
                }
                // The last event tells the whole text once more.
                if let Some(text) = event["generated_text"].as_str() {
                    assert_eq!(text, heard.text);
                    heard.detail(&event["details"]);
                }
            }
            other => panic!("{other}"),
        }
    }
    for (call, arguments) in heard.calls.iter_mut().zip(arguments) {
        call.arguments = serde_json::from_str(&arguments).unwrap();
    }
    heard
}

/// What an error says: its message, and what it is called where that follows from its status.
pub fn failure(format: &str, error: &Value) -> (String, Option<String>) {
    let (message, kind) = match format {
        // What passes of those who speak OpenAI's API but for its errors, says them in a text.
        "openai" if error["error"].is_string() => (&error["error"], &Value::Null),
        "openai" => (&error["error"]["message"], &Value::Null),
        "responses" if error["type"] == "response.failed" => {
            (&error["response"]["error"]["message"], &error["response"]["error"]["code"])
        }
        "responses" => (&error["error"]["message"], &Value::Null),
        "anthropic" => (&error["error"]["message"], &error["error"]["type"]),
        "bedrock" if error.is_array() => (&error[1]["message"], &error[0]),
        "bedrock" => (&error["message"], &Value::Null),
        "gemini" => (&error["error"]["message"], &error["error"]["status"]),
        "cohere" if error["type"] == "message-end" => {
            (&error["delta"]["error"], &error["delta"]["finish_reason"])
        }
        "cohere" => (&error["message"], &Value::Null),
        "huggingface" => (&error["error"], &error["error_type"]),
        other => panic!("{other}"),
    };
    (message.as_str().unwrap().to_owned(), kind.as_str().map(str::to_owned))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

impl Heard {
    fn say(&mut self, text: &Value) {
        self.text.push_str(text.as_str().unwrap_or_default());
    }

    /// A part that is nothing but a text: providers refuse an empty one where the answer is sent again.
    fn say_part(&mut self, text: &Value) {
        assert_ne!(text, "");
        self.say(text);
    }

    /// Arguments are JSON, or the text of it.
    fn call(&mut self, id: &Value, name: &Value, arguments: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let arguments = match arguments.as_str() {
            Some(text) => serde_json::from_str(text).unwrap(),
            None => arguments.clone(),
        };
        self.calls.push(Called { id: text(id), name: text(name), arguments });
    }

    /// Hugging Face's `details`.
    fn detail(&mut self, details: &Value) {
        self.end(&details["finish_reason"], details, ["input_length", "generated_tokens"]);
    }

    fn end(&mut self, finish: &Value, usage: &Value, [prompt, completion]: [&str; 2]) {
        if let Some(finish) = finish.as_str() {
            finish.clone_into(&mut self.finish);
        }
        if usage.is_object() {
            let count = |name: &str| usage[name].as_u64().unwrap_or(0);
            self.tokens = (count(prompt), count(completion));
        }
    }
}
