//! What is printed: decK's lines, summary and JSON document.

mod difference;
mod mask;

use std::io::{IsTerminal, Write};

use serde_json::{Map, Value, json};
use tollgate_declare::plan::{Action, Event, printed};

pub use mask::Mask;

use crate::arguments::Report;

/// Prints to standard output; what nobody reads any more is dropped.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Asks on standard output; whether the answer on standard input is yes.
pub fn confirm(question: &str) -> bool {
    print(question);
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    matches!(line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// How changes are reported.
#[derive(Debug)]
pub struct Reporter {
    json: bool,
    silent: bool,
    quiet: bool,
    color: bool,
    mask: Mask,
    /// Workspace that is made, where one is.
    workspace: Option<String>,
}

#[derive(Clone, Copy)]
enum Color {
    Red = 31,
    Green = 32,
    Yellow = 33,
}

impl Reporter {
    /// A reporter for standard output.
    pub fn new(report: &Report, no_color: bool) -> Self {
        let color = !no_color && std::io::stdout().is_terminal();
        let mask = if report.no_mask_deck_env_vars_value { Mask::default() } else { Mask::of_environment() };
        Self {
            json: report.json_output,
            silent: report.silence_events,
            quiet: false,
            color,
            mask,
            workspace: None,
        }
    }

    /// The same, printing nothing.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Says that a workspace is made.
    pub fn workspace(&mut self, name: &str) {
        if !self.json {
            print(&format!("Creating workspace {name}\n"));
        }
        self.workspace = Some(name.to_owned());
    }

    /// Says what is done.
    pub fn event(&self, event: &Event) {
        if self.json || self.silent || self.quiet {
            return;
        }
        let (kind, name) = (printed(event.kind), &event.name);
        let line = match event.action {
            Action::Create => self.paint(Color::Green, &format!("creating {kind} {name}")),
            Action::Delete => self.paint(Color::Red, &format!("deleting {kind} {name}")),
            Action::Update => {
                let nothing = Map::new();
                let (before, after) =
                    (event.before.as_ref().unwrap_or(&nothing), event.after.as_ref().unwrap_or(&nothing));
                let difference = difference::describe(before, after, &self.mask);
                self.paint(Color::Yellow, &format!("updating {kind} {name} {difference}"))
            }
        };
        print(&format!("{line}\n"));
    }

    /// Says what was not done after an error.
    pub fn dropped(&self, event: &Event) {
        if !self.json && !self.quiet {
            let what = match event.action {
                Action::Create => "creation",
                Action::Update => "update",
                Action::Delete => "deletion",
            };
            print(&format!("Dropped {what} {} {}\n", printed(event.kind), event.name));
        }
    }

    /// The end: the summary, or the whole as JSON. `dropped` were not done.
    pub fn end(&self, done: &[&Event], dropped: &[&Event], errors: &[String]) {
        if self.quiet {
            return;
        }
        let count = |action: Action| done.iter().filter(|event| event.action == action).count();
        let (created, updated, deleted) =
            (count(Action::Create), count(Action::Update), count(Action::Delete));
        if !self.json {
            let summary =
                format!("Summary:\n  Created: {created}\n  Updated: {updated}\n  Deleted: {deleted}");
            let summary = if self.color { format!("\x1b[32;1m{summary}\x1b[0m") } else { summary };
            print(&format!("{summary}\n"));
            return;
        }
        let list = |events: &[&Event], action: Action| -> Vec<Value> {
            events.iter().filter(|event| event.action == action).map(|event| self.change(event)).collect()
        };
        let mut creating = list(done, Action::Create);
        if let Some(workspace) = &self.workspace {
            creating.insert(0, json!({"name": workspace, "kind": "workspace", "body": null}));
        }
        let mut changes = json!({
            "creating": creating, "updating": list(done, Action::Update), "deleting": list(done, Action::Delete),
        });
        for (name, action) in [
            ("dropped_creations", Action::Create),
            ("dropped_updates", Action::Update),
            ("dropped_deletions", Action::Delete),
        ] {
            let list = list(dropped, action);
            if let (false, Some(changes)) = (list.is_empty(), changes.as_object_mut()) {
                changes.insert(name.into(), Value::Array(list));
            }
        }
        let document = json!({
            "changes": changes,
            "summary": {
                "creating": created, "updating": updated, "deleting": deleted, "total": created + updated + deleted,
            },
            "warnings": [],
            "errors": errors,
        });
        print(&format!("{}\n\n", indented(&document, b"\t")));
    }

    fn change(&self, event: &Event) -> Value {
        let shown = |fields: &Map<String, Value>| self.mask.value(&Value::Object(fields.clone()));
        let body = match event.action {
            Action::Update => {
                json!({"new": event.after.as_ref().map(shown), "old": event.before.as_ref().map(shown)})
            }
            Action::Create | Action::Delete => json!({"new": shown(&event.fields), "old": null}),
        };
        json!({"name": event.name, "kind": printed(event.kind), "body": body})
    }

    fn paint(&self, color: Color, text: &str) -> String {
        if self.color { format!("\x1b[{}m{text}\x1b[0m", color as u8) } else { text.to_owned() }
    }
}

/// JSON over several lines.
pub fn indented(value: &Value, indent: &[u8]) -> String {
    use serde::Serialize;
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    // Writing to memory does not fail.
    let _ = value.serialize(&mut serializer);
    String::from_utf8_lossy(&out).into_owned()
}
