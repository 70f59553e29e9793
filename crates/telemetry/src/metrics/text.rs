//! Prometheus's text form, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Family, Kind};

/// A value to show.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// A whole number.
    Integer(u64),
    /// Any number.
    Float(f64),
}

/// Metrics on their way to Prometheus, sorted by name.
#[derive(Default)]
pub struct Exposition {
    families: BTreeMap<&'static str, String>,
}

impl Exposition {
    /// Adds a series with one value. `labels` are values in the order of the family's names.
    pub fn value(&mut self, family: &Family, labels: &[&str], value: Number) {
        self.line(family, "", labels, None, value);
    }

    /// Adds a histogram: how many values fell into each bucket, the last being the one without a bound, and
    /// the sum of all values.
    pub fn histogram(&mut self, family: &Family, labels: &[&str], counts: &[u64], sum: u64) {
        let mut total = 0;
        for (at, count) in counts.iter().enumerate() {
            total += count;
            let bound = family.buckets().get(at).map_or_else(|| "+Inf".to_owned(), u64::to_string);
            self.line(family, "_bucket", labels, Some(&bound), Number::Integer(total));
        }
        self.line(family, "_count", labels, None, Number::Integer(total));
        self.line(family, "_sum", labels, None, Number::Integer(sum));
    }

    fn line(&mut self, family: &Family, suffix: &str, labels: &[&str], bound: Option<&str>, value: Number) {
        let out = self.families.entry(family.name).or_insert_with(|| {
            let kind = match family.kind {
                Kind::Counter | Kind::Amount => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            format!("# HELP {0} {1}\n# TYPE {0} {kind}\n", family.name, family.help)
        });
        out.push_str(family.name);
        out.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        let pairs = family.labels.iter().copied().zip(labels.iter().copied()).chain(bound);
        let mut open = '{';
        for (name, value) in pairs {
            out.push(open);
            out.push_str(name);
            out.push_str("=\"");
            for character in value.chars() {
                match character {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    other => out.push(other),
                }
            }
            out.push('"');
            open = ',';
        }
        if open == ',' {
            out.push('}');
        }
        // Writing to a string cannot fail.
        let _ = match value {
            Number::Integer(value) => writeln!(out, " {value}"),
            Number::Float(value) => writeln!(out, " {value}"),
        };
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.families.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::families;
    use super::*;

    #[test]
    fn values_are_escaped_and_families_sorted() {
        let mut exposition = Exposition::default();
        exposition.value(&families::NODE, &["a\"b\\c\nd", "1"], Number::Integer(1));
        exposition.value(&families::DATASTORE, &[], Number::Float(0.5));
        let text = exposition.into_text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            ["kong_datastore_reachable 0.5", "kong_node_info{node_id=\"a\\\"b\\\\c\\nd\",version=\"1\"} 1"]
        );
        assert!(text.starts_with("# HELP kong_datastore_reachable "));
    }
}
