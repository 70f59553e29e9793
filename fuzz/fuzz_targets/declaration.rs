//! Any text as a DB-less declaration and as a decK file: read or refused, never a panic; what was read is read
//! again from its JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate_declare::{Declaration, Dialect, Invalid, Node};
use tollgate_model::{PluginSchema, PluginSchemas, Source};

struct NoPlugins;

impl PluginSchemas for NoPlugins {
    fn get(&self, _: &str) -> Option<&PluginSchema> {
        None
    }

    fn all(&self) -> Vec<&PluginSchema> {
        Vec::new()
    }
}

struct Clock;

impl Source for Clock {
    fn now(&self) -> f64 {
        1000.0
    }
}

fuzz_target!(|text: &str| {
    let _ = Declaration::default().add("f", text, Dialect::Deck, &|_| Some("1".to_owned()));
    let Ok(node) = Node::parse("f", text) else { return };
    let _ = Invalid::read("f", node.clone(), &NoPlugins, &Clock);
    let value = node.into_value();
    if value.is_object() {
        let again = Node::parse("f", &value.to_string()).map(Node::into_value);
        assert_eq!(again.ok(), Some(value));
    }
});
