//! A request for a text completion in OpenAI's format, as the conversions read it.

use serde_json::{Map, Value, json};

use crate::convert::chat::{object_of, one_answer};
use crate::request::Call;

/// The client's body.
pub(crate) struct Completion(Map<String, Value>);

impl Completion {
    /// Reads a request.
    ///
    /// # Errors
    /// One that is no object.
    pub(crate) fn read(call: &Call<'_>) -> Result<Self, String> {
        object_of(call).map(Self)
    }

    /// The request, for a provider that gives one answer to it.
    ///
    /// # Errors
    /// More are asked for, as [`one_answer`] has it.
    pub(crate) fn with_one_answer(self) -> Result<Self, String> {
        one_answer(self.0.get("n"))?;
        Ok(self)
    }

    /// The prompt.
    ///
    /// # Errors
    /// One that is not one text.
    pub(crate) fn prompt(&self) -> Result<&str, String> {
        self.0.get("prompt").and_then(Value::as_str).ok_or_else(|| "prompt must be one text".to_owned())
    }

    /// What the client says of an option.
    pub(crate) fn own(&self, name: &str) -> Option<Value> {
        self.0.get(name).filter(|value| !value.is_null()).cloned()
    }

    /// An option: the configured one, else the client's.
    pub(crate) fn option(&self, configured: &Option<String>, name: &str) -> Option<Value> {
        configured.as_deref().and_then(|text| serde_json::from_str(text).ok()).or_else(|| self.own(name))
    }

    /// Where to stop, as a list.
    pub(crate) fn stop(&self) -> Option<Value> {
        self.own("stop").map(|stop| if stop.is_array() { stop } else { json!([stop]) })
    }
}
