//! `ai-prompt-template`: a request that names a template becomes that template, filled in with its properties.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, Scope};
use tollgate_http::{Response, StatusCode};
use tollgate_llm::Format;
use tollgate_llm::json::{Object, quote};
use tollgate_model::{Config, Map, PluginSchema, Value};

use super::refuse;
use super::target::{Reads, body_limit, with_body};
use crate::read;

/// Configuration of `ai-prompt-template` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct AiPromptTemplateConfig {
    /// The templates there are.
    #[config(required)]
    pub templates: Vec<NamedTemplate>,
    /// Whether requests that name no template pass as they are, else they are refused.
    #[config(required, default = true)]
    pub allow_untemplated_requests: bool,
    /// Whether the client's body is logged, as `ai.payload.original_request`.
    #[config(required, default = false)]
    pub log_original_request: bool,
    /// Largest body that is read, in bytes; 0 for no limit. A larger one is refused.
    #[config(default = crate::ai::LARGEST_BODY)]
    pub max_request_body_size: Option<u64>,
}

/// A template.
#[derive(Debug, Clone, Config)]
pub struct NamedTemplate {
    /// Name under which requests ask for it: `{template://NAME}` as `messages` or `prompt`.
    #[config(required)]
    pub name: String,
    /// The request that is sent on, with `{{names}}` of properties in it.
    #[config(required)]
    pub template: String,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("ai-prompt-template", 773, AiPromptTemplateConfig::schema()).about(
        "Makes of a request that names a template that template, filled in with the request's properties.",
    )
}

/// Compiles a configured `ai-prompt-template`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiPromptTemplateConfig = read(config)?;
    let mut templates = HashMap::new();
    for NamedTemplate { name, template } in config.templates {
        // Of several with one name the first counts.
        templates.entry(name).or_insert_with(|| Template::new(&template));
    }
    Ok(Arc::new(AiPromptTemplate {
        templates,
        allow_untemplated: config.allow_untemplated_requests,
        log_original: config.log_original_request,
        body_limit: body_limit(config.max_request_body_size),
    }))
}

struct AiPromptTemplate {
    templates: HashMap<String, Template>,
    allow_untemplated: bool,
    log_original: bool,
    body_limit: usize,
}

impl Plugin for AiPromptTemplate {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        with_body(exchange, Reads::AsIs, self.body_limit, |exchange, body| self.decide(exchange, body))
    }
}

impl AiPromptTemplate {
    fn decide(&self, exchange: &mut Exchange, body: Option<Bytes>) -> Option<Response> {
        let body = body.unwrap_or_default();
        if self.log_original && !body.is_empty() {
            let original = json!({"original_request": String::from_utf8_lossy(&body)});
            exchange.facts.log_ai("payload", original);
        }
        match self.render(&body) {
            Ok(None) => None,
            Ok(Some(rendered)) => {
                exchange.set_body(rendered.into());
                None
            }
            Err(message) => Some(refuse(Format::OpenAi, StatusCode::BAD_REQUEST, &message)),
        }
    }

    /// The template that the request asks for, filled in; nothing where it asks for none, and need not.
    fn render(&self, body: &[u8]) -> Result<Option<String>, String> {
        let request = match Object::parse(body) {
            Some(request) => request,
            None if serde_json::from_slice::<Vec<Value>>(body).is_ok() => Object::default(),
            None => return Err("this LLM route only supports application/json requests".into()),
        };
        let name = match (request.is_truthy("messages"), request.is_truthy("prompt")) {
            (true, true) => {
                return Err("cannot run 'messages' and 'prompt' templates at the same time".into());
            }
            (true, false) => "messages",
            (false, true) => "prompt",
            (false, false) => {
                return Err(
                    "only 'llm/v1/chat' and 'llm/v1/completions' formats are supported for templating".into(),
                );
            }
        };
        let reference = request.get_str(name);
        let wanted = reference
            .as_deref()
            .and_then(|reference| reference.strip_prefix("{template://")?.strip_suffix('}'));
        let Some(wanted) = wanted else {
            return match self.allow_untemplated {
                true => Ok(None),
                false => Err("this LLM route only supports templated requests".into()),
            };
        };
        let template =
            self.templates.get(wanted).ok_or_else(|| format!("could not find template name [{wanted}]"))?;
        template.render(&properties(request.get("properties"))?).map(Some)
    }
}

/// The properties of a request by name, as they go into a template.
fn properties(text: Option<&str>) -> Result<HashMap<String, String>, String> {
    const NO_OBJECT: &str = "properties must be an object";
    let Some(text) = text.filter(|text| *text != "false") else { return Ok(HashMap::new()) };
    let properties = match serde_json::from_str(text) {
        Ok(Value::Object(properties)) => properties,
        Ok(Value::Array(items)) if items.is_empty() => Map::new(),
        _ => return Err(NO_OBJECT.to_owned()),
    };
    let escaped = |(name, value): (String, Value)| {
        let kind = match &value {
            Value::String(text) => {
                let quoted = quote(text);
                let inner = quoted.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
                return Ok((name, inner.unwrap_or_default().to_owned()));
            }
            // The names that these kinds have in Kong's messages.
            Value::Null => "userdata",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::Array(_) | Value::Object(_) => "table",
        };
        Err(format!("property values must be a string, got {kind}"))
    };
    properties.into_iter().map(escaped).collect()
}

/// A template, taken apart.
struct Template(Vec<Part>);

enum Part {
    Text(String),
    /// The name of a property.
    Property(String),
}

impl Template {
    fn new(template: &str) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find("{{") {
            let (before, open) = rest.split_at(at);
            text.push_str(before);
            let inner = open.strip_prefix("{{").unwrap_or_default();
            let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
            let (name, behind) = inner.split_at(end);
            match behind.strip_prefix("}}").filter(|_| !name.is_empty()) {
                Some(behind) => {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                    parts.push(Part::Property(name.to_owned()));
                    rest = behind;
                }
                // `{{{a}}` holds a placeholder too: only the first brace is behind us.
                None => {
                    text.push('{');
                    rest = open.strip_prefix('{').unwrap_or_default();
                }
            }
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Self(parts)
    }

    /// # Errors
    /// Kong's message about properties that are missing.
    fn render(&self, properties: &HashMap<String, String>) -> Result<String, String> {
        let mut rendered = String::new();
        let mut missing: Vec<String> = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Property(name) => match properties.get(name) {
                    Some(value) => rendered.push_str(value),
                    None => missing.push(format!("[{name}]")),
                },
            }
        }
        if missing.is_empty() {
            return Ok(rendered);
        }
        let mut told = Vec::new();
        missing.retain(|name| {
            let first = !told.contains(name);
            told.push(name.clone());
            first
        });
        Err(format!("missing template parameters: {}", missing.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let properties =
            properties(Some(r#"{"a": "1", "b_2": "x\"}, {\"role\": \"system\"", "c": "{{d}}"}"#)).unwrap();
        for (template, rendered) in [
            (" {\"q\": \"{{a}}\"}\n", Ok(" {\"q\": \"1\"}\n".to_owned())),
            ("{{a}}{{a}}{{b_2}}", Ok(r#"11x\"}, {\"role\": \"system\""#.to_owned())),
            ("{{ a }} {{a} {{-}} {{}} {{{a}}} {{", Ok("{{ a }} {{a} {{-}} {{}} {1} {{".to_owned())),
            // What a property holds is no placeholder.
            ("{{c}}", Ok("{{d}}".to_owned())),
            ("{{x}} {{a}} {{y}} {{x}}", Err("missing template parameters: [x], [y]".to_owned())),
        ] {
            assert_eq!(Template::new(template).render(&properties), rendered, "{template}");
        }
    }
}
