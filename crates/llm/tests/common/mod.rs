//! What the tables of cases have in common: providers as they are configured there, and AWS events as they stand
//! there.

use std::sync::Arc;

use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tollgate_llm::provider::{self, Settings};
use tollgate_llm::{Format, Provider};

/// The provider of this name, with the `settings` of a case.
pub fn provider(name: &str, case: &Value) -> Arc<dyn Provider> {
    let of = |option: &str| case["settings"][option].as_str().map(str::to_owned);
    let settings = Settings {
        azure_instance: of("azure_instance"),
        azure_deployment_id: of("azure_deployment_id"),
        azure_api_version: of("azure_api_version"),
        anthropic_version: of("anthropic_version"),
        aws_region: of("aws_region"),
        bedrock_latency: of("bedrock_latency"),
        bedrock_normalizes: case["settings"]["embeddings_normalize"].as_bool(),
        llama2_format: of("llama2_format"),
        mistral_format: of("mistral_format"),
        dashscope_in_china: case["settings"]["dashscope_in_china"] == true,
        databricks_workspace: of("databricks_workspace"),
        cohere_embedding_input_type: of("cohere_embedding_input_type"),
        gemini_api_endpoint: of("gemini_api_endpoint"),
        gemini_project_id: of("gemini_project_id"),
        gemini_location_id: of("gemini_location_id"),
        huggingface_use_cache: case["settings"]["huggingface_use_cache"].as_bool(),
        huggingface_wait_for_model: case["settings"]["huggingface_wait_for_model"].as_bool(),
        own_server: case["settings"]["own_server"] == true,
    };
    provider::configured(name, &settings).unwrap()
}

/// What a client speaks, by the name it has in the tables.
pub fn format(name: &str) -> Format {
    match name {
        "responses" => Format::Responses,
        name => Format::named(name).unwrap(),
    }
}

/// AWS events as bytes. In the tables they are pairs of type and payload; types of exceptions begin with `!`.
pub fn aws_bytes(events: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for event in events {
        let name = event[0].as_str().unwrap();
        let (kind, name_header, name) = match name.strip_prefix('!') {
            Some(exception) => ("exception", ":exception-type", exception),
            None => ("event", ":event-type", name),
        };
        let header =
            |name: &'static str, value: &str| Header::new(name, HeaderValue::String(value.to_owned().into()));
        let headers = vec![
            header(name_header, name),
            header(":content-type", "application/json"),
            header(":message-type", kind),
        ];
        // What a model has said when it was invoked stands there in base64.
        let payload = match name {
            "chunk" => json!({"bytes": STANDARD.encode(event[1].to_string())}),
            _ => event[1].clone(),
        };
        let message = Message::new_from_parts(headers, payload.to_string().into_bytes());
        write_message_to(&message, &mut bytes).unwrap();
    }
    bytes
}

/// AWS events of bytes, as the tables hold them.
pub fn aws_events(mut bytes: &[u8]) -> Vec<Value> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let message = read_message_from(&mut bytes).unwrap();
        let header = |name: &str| {
            let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
            Some(header.value().as_string().unwrap().as_str().to_owned())
        };
        assert_eq!(header(":content-type").unwrap(), "application/json");
        let name = match header(":message-type").unwrap().as_str() {
            "exception" => format!("!{}", header(":exception-type").unwrap()),
            _ => header(":event-type").unwrap(),
        };
        events.push(json!([name, serde_json::from_slice::<Value>(message.payload()).unwrap()]));
    }
    events
}
