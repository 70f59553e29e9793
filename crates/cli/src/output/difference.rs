//! Two entities as one JSON text in which each line is marked as same, old or new, as decK shows it.

use serde_json::{Map, Value};

use super::Mask;

/// The marked text; its first line belongs behind what it is about.
pub fn describe(before: &Map<String, Value>, after: &Map<String, Value>, mask: &Mask) -> String {
    let mut text = Text { lines: String::from(" {\n"), mask };
    text.objects(before, after, 1);
    text.lines.push_str(" }\n");
    text.lines
}

struct Text<'a> {
    lines: String,
    mask: &'a Mask,
}

impl Text<'_> {
    fn line(&mut self, mark: char, depth: usize, content: &str, comma: bool) {
        self.lines.push(mark);
        self.lines.extend(std::iter::repeat_n("  ", depth));
        self.lines.push_str(content);
        self.lines.push_str(if comma { ",\n" } else { "\n" });
    }

    fn objects(&mut self, before: &Map<String, Value>, after: &Map<String, Value>, depth: usize) {
        let mut names: Vec<&String> = before.keys().collect();
        names.sort();
        let last = names.len();
        for (place, name) in names.into_iter().enumerate() {
            let key = format!("\"{name}\": ");
            let comma = place + 1 < last;
            if let Some(old) = before.get(name) {
                match after.get(name) {
                    Some(new) => self.both(&key, old, new, depth, comma),
                    None => self.whole('-', &key, old, depth, comma),
                }
            }
        }
        // What is new comes last, without commas, as decK has it.
        let mut added: Vec<&String> = after.keys().filter(|name| !before.contains_key(*name)).collect();
        added.sort();
        for name in added {
            if let Some(new) = after.get(name) {
                self.whole('+', &format!("\"{name}\": "), new, depth, false);
            }
        }
    }

    fn both(&mut self, key: &str, old: &Value, new: &Value, depth: usize, comma: bool) {
        match (old, new) {
            (old, new) if old == new => self.whole(' ', key, old, depth, comma),
            (Value::Object(old), Value::Object(new)) => {
                self.line(' ', depth, &format!("{key}{{"), false);
                self.objects(old, new, depth + 1);
                self.line(' ', depth, "}", comma);
            }
            (Value::Array(old), Value::Array(new)) => {
                self.line(' ', depth, &format!("{key}["), false);
                self.arrays(old, new, depth + 1);
                self.line(' ', depth, "]", comma);
            }
            _ => {
                self.whole('-', key, old, depth, comma);
                self.whole('+', key, new, depth, comma);
            }
        }
    }

    fn arrays(&mut self, old: &[Value], new: &[Value], depth: usize) {
        let steps = steps(old, new);
        let last = steps.len();
        for (place, (old, new)) in steps.into_iter().enumerate() {
            let comma = place + 1 < last;
            match (old, new) {
                (Some(old), Some(new)) => self.both("", old, new, depth, comma),
                (Some(old), None) => self.whole('-', "", old, depth, comma),
                (None, Some(new)) => self.whole('+', "", new, depth, comma),
                (None, None) => {}
            }
        }
    }

    fn whole(&mut self, mark: char, key: &str, value: &Value, depth: usize, comma: bool) {
        match value {
            Value::Object(fields) => {
                self.line(mark, depth, &format!("{key}{{"), false);
                let mut names: Vec<&String> = fields.keys().collect();
                names.sort();
                let last = names.len();
                for (place, name) in names.into_iter().enumerate() {
                    if let Some(value) = fields.get(name) {
                        self.whole(mark, &format!("\"{name}\": "), value, depth + 1, place + 1 < last);
                    }
                }
                self.line(mark, depth, "}", comma);
            }
            Value::Array(list) => {
                self.line(mark, depth, &format!("{key}["), false);
                for (place, value) in list.iter().enumerate() {
                    self.whole(mark, "", value, depth + 1, place + 1 < list.len());
                }
                self.line(mark, depth, "]", comma);
            }
            Value::String(text) => {
                let text = self.mask.text(text);
                self.line(mark, depth, &format!("{key}\"{text}\""), comma);
            }
            other => {
                let text = self.mask.text(&other.to_string());
                self.line(mark, depth, &format!("{key}{text}"), comma);
            }
        }
    }
}

type Step<'a> = (Option<&'a Value>, Option<&'a Value>);

/// Longest lists that are compared element by element in every combination.
const LONGEST: usize = 500;

/// What became of each element: elements that stay are paired along the longest common run; between them, old
/// ones are paired with new ones where both are objects or lists.
fn steps<'a>(old: &'a [Value], new: &'a [Value]) -> Vec<Step<'a>> {
    if old.len() > LONGEST || new.len() > LONGEST {
        return old
            .iter()
            .map(|old| (Some(old), None))
            .chain(new.iter().map(|new| (None, Some(new))))
            .collect();
    }
    // common[i][j]: length of the longest common run of old[i..] and new[j..].
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = if old[i] == new[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut steps, mut i, mut j) = (Vec::new(), 0, 0);
    let nests = |value: &Value| value.is_object() || value.is_array();
    while i < old.len() || j < new.len() {
        match (old.get(i), new.get(j)) {
            (Some(a), Some(b)) if a == b => {
                steps.push((Some(a), Some(b)));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), Some(b)) if nests(a) && nests(b) && common[i + 1][j + 1] == common[i][j] => {
                steps.push((Some(a), Some(b)));
                (i, j) = (i + 1, j + 1);
            }
            (Some(a), b) if b.is_none() || common[i + 1][j] >= common[i][j + 1] => {
                steps.push((Some(a), None));
                i += 1;
            }
            (_, Some(b)) => {
                steps.push((None, Some(b)));
                j += 1;
            }
            (_, None) => break,
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn as_deck_shows_it() {
        let before =
            json!({"port": 32000, "host": "localhost", "tags": ["a", "b"], "config": {"x": null, "y": 1}});
        let after =
            json!({"port": 32001, "host": "localhost", "tags": ["b", "c"], "config": {"y": 1}, "path": "/p"});
        assert_eq!(
            describe(before.as_object().unwrap(), after.as_object().unwrap(), &Mask::default()),
            " {\n   \"config\": {\n-    \"x\": null,\n     \"y\": 1\n   },\n   \"host\": \"localhost\",\n\
             -  \"port\": 32000,\n+  \"port\": 32001,\n   \"tags\": [\n-    \"a\",\n     \"b\",\n+    \"c\"\n   ]\n\
             +  \"path\": \"/p\"\n }\n"
        );
    }
}
