//! `$(headers.x)`, `$(uri_captures.x)` and `$(query_params.x)` in configured strings.

/// A configured string, compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Value(Place, Box<str>),
    /// Fails with this message, as Kong does: when the request comes.
    Wrong(Box<str>),
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A header.
    Headers,
    /// A capture of the route's regex path.
    UriCaptures,
    /// A query argument.
    QueryParams,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::UriCaptures => "uri_captures",
            Self::QueryParams => "query_params",
        }
    }
}

impl Template {
    /// Compiles a string; one without placeholders is itself.
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("$(") {
            let Some(end) = rest[start..].find(')').map(|end| start + end) else { break };
            if start > 0 {
                parts.push(Part::Text(rest[..start].into()));
            }
            parts.push(placeholder(&rest[start + 2..end], text));
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Self { parts }
    }

    /// The string itself, where it holds no placeholder.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Fills in the values of a request.
    ///
    /// # Errors
    /// Kong's message for a placeholder that is malformed or has no value.
    pub fn render(&self, value: impl Fn(Place, &str) -> Option<String>) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Wrong(message) => return Err(message.to_string()),
                Part::Value(place, key) => {
                    out.push_str(
                        &value(*place, key)
                            .ok_or_else(|| format!("{} key {key} was not provided", place.name()))?,
                    );
                }
            }
        }
        Ok(out)
    }
}

fn placeholder(inner: &str, whole: &str) -> Part {
    let Some((source, key)) = inner.split_once('.').filter(|(_, key)| !key.contains('.') && !key.is_empty())
    else {
        return Part::Wrong(format!("cannot parse expression for field '{whole}'").into());
    };
    match source {
        "headers" => Part::Value(Place::Headers, key.into()),
        "uri_captures" => Part::Value(Place::UriCaptures, key.into()),
        "query_params" => Part::Value(Place::QueryParams, key.into()),
        _ => Part::Wrong(format!("source '{source}' is not supported").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Text without placeholders is itself; with some, what is filled in stands where they stood.
        #[test]
        fn text_around_placeholders_stays(parts in prop::collection::vec("[a-z/:. ]{0,6}", 1..5)) {
            let text = parts.join("$(headers.x)");
            let rendered = Template::new(&text).render(|_, _| Some("V".to_owned())).unwrap();
            prop_assert_eq!(rendered, parts.join("V"));
        }

        #[test]
        fn no_text_is_too_odd(text in r"[$().a-z ]{0,20}") {
            let _ = Template::new(&text).render(|_, key| (key.len() > 2).then(|| key.to_owned()));
        }
    }

    #[test]
    fn values_and_messages() {
        let value =
            |place: Place, key: &str| (place == Place::Headers && key == "x-model").then(|| "gpt".to_owned());
        for (text, expected) in [
            ("plain", Ok("plain")),
            ("a-$(headers.x-model)-$(headers.x-model)", Ok("a-gpt-gpt")),
            ("$(headers.none)", Err("headers key none was not provided")),
            ("$(body.x)", Err("source 'body' is not supported")),
            ("$(nodot)", Err("cannot parse expression for field '$(nodot)'")),
            ("$(headers.x", Ok("$(headers.x")),
        ] {
            assert_eq!(
                Template::new(text).render(value),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{text}"
            );
        }
    }
}
