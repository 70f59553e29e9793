//! A chat request in OpenAI's format, read into what every provider has a notion of.

use serde_json::{Map, Value};

use crate::request::{Call as Request, Rules};

/// Fewest tokens that thinking can be given.
const LEAST_BUDGET: u64 = 1024;

/// A request to chat. Numbers stay as they were written.
#[derive(Debug, Default)]
pub(crate) struct Chat {
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    /// Tools of the provider's own, as they stand in the request.
    pub own_tools: Vec<Value>,
    pub choice: Option<Choice>,
    /// `parallel_tool_calls: false`
    pub one_call_at_a_time: bool,
    /// Schema that the answer is to follow.
    pub schema: Option<Value>,
    /// Whether the answer is to be JSON of any shape.
    pub json: bool,
    pub max_tokens: Option<Value>,
    pub temperature: Option<Value>,
    pub top_p: Option<Value>,
    pub top_k: Option<Value>,
    pub stop: Vec<Value>,
    pub seed: Option<Value>,
    pub reasoning_effort: Option<String>,
    /// Members that only some providers know.
    pub body: Map<String, Value>,
}

/// A message.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Of the roles `system` and `developer`.
    System(Vec<Part>),
    User(Vec<Part>),
    Assistant(Vec<Part>, Vec<Call>),
    /// What a tool has given.
    Tool {
        id: String,
        parts: Vec<Part>,
    },
}

/// A part of a message.
#[derive(Debug)]
pub(crate) struct Part {
    pub content: Content,
    /// `cache_control` that stands with it.
    pub cache: Option<Value>,
}

/// What a part holds.
#[derive(Debug)]
pub(crate) enum Content {
    Text(String),
    Image(Source),
    File { name: Option<String>, source: Source },
    Audio,
}

/// Where an image or a file is.
#[derive(Debug)]
pub(crate) enum Source {
    /// Here, in base64.
    Data {
        media_type: String,
        data: String,
    },
    Url(String),
    /// At the provider's.
    Id(String),
}

/// A tool called.
#[derive(Debug)]
pub(crate) struct Call {
    pub id: String,
    pub name: String,
    pub arguments: Map<String, Value>,
}

/// A function that the model may call.
#[derive(Debug)]
pub(crate) struct Tool {
    pub name: String,
    pub description: Option<Value>,
    pub parameters: Value,
    pub cache: Option<Value>,
}

/// Which tools the model is to call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Auto,
    None,
    Required,
    Function(String),
}

impl Chat {
    /// Reads a request. Configured options win over the request's own.
    ///
    /// # Errors
    /// What cannot be understood, and where.
    pub fn read(request: &Request<'_>, rules: &Rules<'_>) -> Result<Self, String> {
        let mut body = object_of(request)?;
        let mut take = |name: &str| body.shift_remove(name).filter(|value| !value.is_null());
        let configured =
            |text: &Option<String>| text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let (own_limit, old_limit) = (take("max_completion_tokens"), take("max_tokens"));
        let options = rules.options;
        let (temperature, top_p, top_k) = (take("temperature"), take("top_p"), take("top_k"));
        let format = take("response_format").unwrap_or_default();
        let mut chat = Self {
            choice: take("tool_choice").as_ref().and_then(choice),
            one_call_at_a_time: take("parallel_tool_calls") == Some(false.into()),
            schema: (format["type"] == "json_schema").then(|| format["json_schema"]["schema"].clone()),
            max_tokens: configured(&options.max_tokens).or(own_limit).or(old_limit),
            temperature: configured(&options.temperature).or(temperature),
            top_p: configured(&options.top_p).or(top_p),
            top_k: configured(&options.top_k).or(top_k),
            stop: match take("stop") {
                Some(Value::Array(list)) => list,
                Some(one) => vec![one],
                None => Vec::new(),
            },
            json: format["type"] == "json_object",
            seed: take("seed"),
            reasoning_effort: take("reasoning_effort").as_ref().and_then(Value::as_str).map(str::to_owned),
            ..Self::default()
        };
        if let Some(Value::Array(messages)) = take("messages") {
            for (index, message) in messages.into_iter().enumerate() {
                let turn =
                    turn(message).map_err(|reason| format!("message at position {}: {reason}", index + 1))?;
                chat.turns.push(turn);
            }
        }
        if let Some(Value::Array(tools)) = take("tools") {
            for (index, tool) in tools.into_iter().enumerate() {
                match tool["type"].as_str() {
                    Some("function") | None => chat.tools.push(
                        function(tool)
                            .ok_or_else(|| format!("tool at position {} has no name", index + 1))?,
                    ),
                    Some(_) => chat.own_tools.push(tool),
                }
            }
        }
        chat.body = body;
        Ok(chat)
    }

    /// What the answer may have at most, as a number.
    pub fn limit(&self) -> Option<u64> {
        self.max_tokens.as_ref().and_then(Value::as_u64)
    }

    /// Tokens that a Claude model may think with; `None` where it is not to think.
    ///
    /// Thinking does not go with a tool that must be called, nor after calls whose thoughts are not there to be
    /// sent again: OpenAI's format has no place for their signatures.
    pub fn thinking_budget(&self, ends_with_calls: bool) -> Option<u64> {
        let wanted = match self.reasoning_effort.as_deref()? {
            "low" => LEAST_BUDGET,
            "medium" => 2 * LEAST_BUDGET,
            "high" => 4 * LEAST_BUDGET,
            "xhigh" | "max" => 16 * LEAST_BUDGET,
            _ => return None,
        };
        let forced = matches!(self.choice, Some(Choice::Required | Choice::Function(_)));
        let budget = self.limit().map_or(wanted, |limit| wanted.min(limit.saturating_sub(1)));
        (!forced && !ends_with_calls && budget >= LEAST_BUDGET).then_some(budget)
    }

    /// Adds what is meant for the provider alone: the members of `extra_body`, and the key that goes into the body.
    pub fn add_extras(&mut self, to: &mut Map<String, Value>, rules: &Rules<'_>) {
        if let Some(Value::Object(extra)) = self.body.shift_remove("extra_body") {
            to.extend(extra);
        }
        if let Some(auth) = rules.auth
            && !(auth.keep_own && self.body.contains_key(auth.name))
        {
            to.insert(auth.name.to_owned(), auth.value.into());
        }
    }
}

/// The body as an object.
///
/// # Errors
/// One that is none.
pub(crate) fn object_of(request: &Request<'_>) -> Result<Map<String, Value>, String> {
    serde_json::from_str(request.body.text())
        .map_err(|error| format!("the request is no JSON object: {error}"))
}

fn turn(message: Value) -> Result<Turn, String> {
    let Value::Object(mut message) = message else { return Err("is no object".to_owned()) };
    let role = message.shift_remove("role").unwrap_or_default();
    let cache = message.shift_remove("cache_control");
    let mut parts = parts(message.shift_remove("content").unwrap_or_default())?;
    if let Some(last) = parts.last_mut().filter(|part| part.cache.is_none()) {
        last.cache = cache;
    }
    Ok(match role.as_str() {
        Some("system" | "developer") => Turn::System(parts),
        Some("user") => Turn::User(parts),
        Some("assistant") => {
            let calls = match message.shift_remove("tool_calls") {
                Some(Value::Array(calls)) => calls.into_iter().map(call).collect::<Result<_, _>>()?,
                _ => Vec::new(),
            };
            Turn::Assistant(parts, calls)
        }
        Some("tool") => {
            let id = message.get("tool_call_id").and_then(Value::as_str);
            Turn::Tool { id: id.ok_or("has no tool_call_id")?.to_owned(), parts }
        }
        _ => return Err(format!("has the unknown role {role}")),
    })
}

fn parts(content: Value) -> Result<Vec<Part>, String> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Part { content: Content::Text(text), cache: None }]),
        Value::Array(parts) => parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| {
                part_of(part).map_err(|reason| format!("part at position {}: {reason}", index + 1))
            })
            .collect(),
        other => Err(format!("its content is neither text nor a list of parts but {other}")),
    }
}

fn part_of(mut part: Value) -> Result<Part, String> {
    let kind = part["type"].as_str().unwrap_or_default().to_owned();
    let mut string = |path: &str| match part.pointer_mut(path).map(Value::take) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    };
    let content = match kind.as_str() {
        "text" => {
            Content::Text(string("/text").ok_or("message part type is 'text' but is missing .text block")?)
        }
        "refusal" => Content::Text(string("/refusal").ok_or("message part type is 'refusal' but has none")?),
        "image_url" => {
            let url = string("/image_url/url")
                .ok_or("message part type is 'image_url' but is missing .image_url.url block")?;
            Content::Image(source(url)?)
        }
        "file" => {
            let name = string("/file/filename");
            let source = match (string("/file/file_data"), string("/file/file_id")) {
                (Some(data), _) => source(data)?,
                (None, Some(id)) => Source::Id(id),
                (None, None) => return Err("a file needs file_data or file_id".to_owned()),
            };
            Content::File { name, source }
        }
        "input_audio" => Content::Audio,
        kind => return Err(format!("cannot transform part of type '{kind}'")),
    };
    let cache = part.get_mut("cache_control").map(Value::take);
    Ok(Part { content, cache })
}

/// What stands in a URL: its data where it is a `data:` URL.
fn source(url: String) -> Result<Source, String> {
    let Some(rest) = url.strip_prefix("data:") else {
        return match ["http://", "https://", "s3://"].iter().any(|scheme| url.starts_with(scheme)) {
            true => Ok(Source::Url(url)),
            false => Err("neither an http(s) nor a data URL".to_owned()),
        };
    };
    let (kind, data) = rest.split_once(";base64,").ok_or("a data URL must be base64")?;
    let media_type = kind.split(';').next().unwrap_or_default().to_owned();
    Ok(Source::Data { media_type, data: data.to_owned() })
}

fn call(call: Value) -> Result<Call, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let function = &call["function"];
    let arguments = function["arguments"].as_str().unwrap_or_default();
    let arguments = match arguments.trim() {
        "" => Map::new(),
        arguments => serde_json::from_str(arguments).map_err(|_| {
            "failed to decode function response arguments from assistant's message, not JSON format"
                .to_owned()
        })?,
    };
    Ok(Call {
        id: text(&call["id"]).ok_or("a tool call has no id")?,
        name: text(&function["name"]).ok_or("a tool call has no function.name")?,
        arguments,
    })
}

fn function(mut tool: Value) -> Option<Tool> {
    let cache = tool.get_mut("cache_control").map(Value::take);
    let mut function = tool.get_mut("function")?.take();
    let mut take = |name: &str| function.get_mut(name).map(Value::take).filter(|value| !value.is_null());
    Some(Tool {
        name: take("name")?.as_str()?.to_owned(),
        description: take("description"),
        parameters: take("parameters")
            .unwrap_or_else(|| serde_json::json!({"type": "object", "properties": {}})),
        cache: take("cache_control").or(cache),
    })
}

fn choice(choice: &Value) -> Option<Choice> {
    match choice.as_str() {
        Some("auto") => Some(Choice::Auto),
        Some("none") => Some(Choice::None),
        Some("required") => Some(Choice::Required),
        _ => choice["function"]["name"].as_str().map(|name| Choice::Function(name.to_owned())),
    }
}
