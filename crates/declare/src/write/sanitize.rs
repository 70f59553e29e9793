//! A configuration that others may see: what is its owner's own stands as hashes, so that it can still be applied, and
//! one text is the same wherever it stood (decK: `gateway dump --sanitize`).

use std::collections::BTreeSet;
use std::fmt::Write;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tollgate_model::Kind;

use crate::plan::fill::kong_fields;
use crate::plan::{Existing, Schemas};

/// Replaces texts by hashes.
pub struct Sanitizer<'a> {
    /// Comes before each text that is hashed: without it nobody can try what a text may have been.
    pub salt: String,
    /// Of the plugins there are.
    pub schemas: &'a Schemas,
}

impl Sanitizer<'_> {
    /// Replaces the texts of an entity. Ids, names of plugins, methods and whatever can have certain values only stay;
    /// certificates are replaced by new ones.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn entity(&self, entity: &mut Existing) -> Result<(), rcgen::Error> {
        let mut kept = BTreeSet::from(["id".to_owned()]);
        add_certain(&entity.kind.to_kong_schema(), &mut kept);
        match entity.kind {
            Kind::Plugin => {
                kept.insert("name".to_owned());
                let name = entity.fields.get("name").and_then(Value::as_str).unwrap_or_default();
                // Names of settings are their own; the plugin's stands beside them.
                let mut certain = BTreeSet::from(["id".to_owned()]);
                self.schemas.plugin(name).into_iter().for_each(|schema| add_certain(schema, &mut certain));
                if let Some(Value::Object(config)) = entity.fields.get_mut("config") {
                    self.object(config, &certain);
                }
                kept.insert("config".to_owned());
            }
            Kind::Route => {
                kept.insert("methods".to_owned());
            }
            Kind::Certificate | Kind::CaCertificate => {
                kept.extend(["cert", "key", "cert_alt", "key_alt", "cert_digest"].map(str::to_owned));
                replace_certificates(entity.kind, &mut entity.fields)?;
            }
            _ => {}
        }
        self.object(&mut entity.fields, &kept);
        Ok(())
    }

    fn object(&self, members: &mut Map<String, Value>, kept: &BTreeSet<String>) {
        for (_, value) in members.iter_mut().filter(|(name, _)| !kept.contains(*name)) {
            self.value(value, kept);
        }
    }

    fn value(&self, value: &mut Value, kept: &BTreeSet<String>) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(list) => list.iter_mut().for_each(|value| self.value(value, kept)),
            Value::Object(members) => self.object(members, kept),
            _ => {}
        }
    }

    /// What stands for a text: its hash, in what it has to look like to be taken where it stood.
    pub fn text(&self, text: &str) -> String {
        if text.is_empty() || text.starts_with("{vault://") {
            return text.to_owned();
        }
        let mut hash = String::new();
        for byte in Sha256::new().chain_update(&self.salt).chain_update(text).finalize() {
            let _ = write!(hash, "{byte:02x}");
        }
        let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once(':') {
            _ if is_address(text) => format!("email@{hash}.redacted"),
            Some((scheme @ ("http" | "https"), rest)) if rest.starts_with("//") => {
                format!("{scheme}://{hash}.redacted")
            }
            Some((_, port)) if is_port(port) => format!("{hash}:{port}"),
            Some((name, _)) if !name.is_empty() => format!("redacted:{hash}"),
            _ if text.starts_with('/') || text.starts_with("~/") => format!("/redacted/path/{hash}"),
            _ if text.contains('/') => format!("redacted/{hash}"),
            _ => hash,
        }
    }
}

/// Whether a text is an address of mail.
fn is_address(text: &str) -> bool {
    let is_plain = |part: &str, more: &[u8]| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    text.split_once('@').is_some_and(|(user, host)| {
        let end = host
            .rsplit_once('.')
            .is_some_and(|(_, end)| end.len() >= 2 && end.bytes().all(|byte| byte.is_ascii_alphabetic()));
        end && is_plain(user, b"._%+-") && is_plain(host, b".-")
    })
}

/// Names of fields, however deep, whose texts are certain ones.
fn add_certain(schema: &Value, names: &mut BTreeSet<String>) {
    for (name, field) in kong_fields(schema) {
        let of_elements = field.pointer("/elements/one_of");
        if field.get("one_of").or(of_elements).is_some() {
            names.insert(name.to_owned());
        }
        for inner in [Some(field), field.get("elements"), field.get("values")].into_iter().flatten() {
            add_certain(inner, names);
        }
    }
}

/// Puts new certificates, and their keys, where there are some.
fn replace_certificates(kind: Kind, fields: &mut Map<String, Value>) -> Result<(), rcgen::Error> {
    for (cert, key) in [("cert", "key"), ("cert_alt", "key_alt")] {
        if fields.get(cert).is_none_or(Value::is_null) {
            continue;
        }
        let mut parameters = CertificateParams::new(["redacted".to_owned()])?;
        if kind == Kind::CaCertificate {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let signer = KeyPair::generate()?;
        fields.insert(cert.to_owned(), parameters.self_signed(&signer)?.pem().into());
        if kind == Kind::Certificate {
            fields.insert(key.to_owned(), signer.serialize_pem().into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hashes_look_like_what_they_stand_for() {
        let schemas = Schemas::default();
        let sanitizer = Sanitizer { salt: "salt".to_owned(), schemas: &schemas };
        // printf 'saltsecret' | sha256sum
        let hash = "bede90386d450cea8b77b822f8887065e4e5abf132c2f9dccfcc7fbd4cba5e35";
        assert_eq!(sanitizer.text("secret"), hash);
        let shape = |text: &str| {
            let hash = Sha256::new().chain_update("salt").chain_update(text).finalize();
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            sanitizer.text(text).replace(&hash, "#")
        };
        for (text, expected) in [
            ("secret", "#"),
            ("", ""),
            ("{vault://env/key}", "{vault://env/key}"),
            ("/a/b", "/redacted/path/#"),
            ("~/a/(?<b>.*)$", "/redacted/path/#"),
            ("application/json", "redacted/#"),
            ("jim@example.com", "email@#.redacted"),
            ("x-header:value", "redacted:#"),
            ("https://user@example.com/a?b", "https://#.redacted"),
            ("10.0.0.1:8080", "#:8080"),
            ("example.com", "#"),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
        let other = Sanitizer { salt: "other".to_owned(), schemas: &schemas };
        assert_ne!(sanitizer.text("secret"), other.text("secret"));
    }

    #[test]
    fn what_can_have_certain_values_only_stays() {
        let mut schemas = Schemas::default();
        let schema = json!({"fields": [{"config": {"type": "record", "fields": [
            {"policy": {"type": "string", "one_of": ["local", "redis"]}},
            {"redis": {"type": "record", "fields": [
                {"host": {"type": "string"}},
                {"modes": {"type": "set", "elements": {"type": "string", "one_of": ["a"]}}},
            ]}},
        ]}}]});
        schemas.add_plugin("rate-limiting", schema);
        let sanitizer = Sanitizer { salt: String::new(), schemas: &schemas };
        let Value::Object(fields) = json!({
            "id": "p", "name": "rate-limiting", "tags": ["team"], "route": {"id": "r"}, "protocols": ["http"],
            "config": {"policy": "redis", "minute": 5, "redis": {"host": "cache", "modes": ["a"]}},
        }) else {
            panic!("an object is expected")
        };
        let mut entity = Existing { kind: Kind::Plugin, id: "p".to_owned(), fields };
        sanitizer.entity(&mut entity).unwrap();
        let expected = json!({
            "id": "p", "name": "rate-limiting", "tags": [sanitizer.text("team")], "route": {"id": "r"},
            "protocols": ["http"],
            "config": {"policy": "redis", "minute": 5, "redis": {"host": sanitizer.text("cache"), "modes": ["a"]}},
        });
        assert_eq!(Value::Object(entity.fields), expected);
    }
}
