//! `${{ env "DECK_X" | toBool }}`: values of the environment in files, replaced before YAML is read.

use serde_json::Value;

use crate::Problem;

/// Replaces every expression. Lines that are comments are left alone.
///
/// # Errors
/// decK's messages: a variable that is missing or not called `DECK_…`, a value that is not what it should be,
/// an expression that does not end.
pub fn substitute(
    file: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    let mut out = String::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(start) = rest.find("${{") {
        let (before, after) = rest.split_at(start);
        line += before.matches('\n').count();
        out.push_str(before);
        let own_line = out.rsplit('\n').next().unwrap_or_default();
        if own_line.trim_start().starts_with('#') {
            let end = after.find('\n').unwrap_or(after.len());
            out.push_str(&after[..end]);
            rest = &after[end..];
            continue;
        }
        let problem = |message: String| Problem::at(file, line, "", message);
        let inner = &after[3..];
        let end = inner
            .find("}}")
            .ok_or_else(|| problem("an expression ${{ … has no end; expected }} (unclosed action)".into()))?;
        let (expression, trims) = trimmed(&inner[..end]);
        if trims.0 {
            out.truncate(out.trim_end().len());
        }
        out.push_str(&evaluate(expression, variable).map_err(problem)?);
        line += inner[..end].matches('\n').count();
        rest = &inner[end + 2..];
        if trims.1 {
            let kept = rest.trim_start();
            line += rest[..rest.len() - kept.len()].matches('\n').count();
            rest = kept;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The expression without its trim markers, and whether white space before and after it goes.
fn trimmed(expression: &str) -> (&str, (bool, bool)) {
    let (expression, before) = match expression.strip_prefix('-') {
        Some(rest) if rest.starts_with(char::is_whitespace) => (rest, true),
        _ => (expression, false),
    };
    let (expression, after) = match expression.strip_suffix('-') {
        Some(rest) if rest.ends_with(char::is_whitespace) => (rest, true),
        _ => (expression, false),
    };
    (expression.trim(), (before, after))
}

fn evaluate(expression: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if expression.starts_with("/*") && expression.ends_with("*/") {
        return Ok(String::new());
    }
    let mut stages = expression.split('|').map(str::trim);
    let first = stages.next().unwrap_or_default();
    let not_understood = || {
        format!(
            "'{expression}' is not understood; expected env \"DECK_…\", with toBool, toInt, toFloat, indent or printf after a |"
        )
    };
    let (name, mut value) = match (quoted(first), first.strip_prefix("env").map(str::trim).and_then(quoted)) {
        (_, Some(name)) => (name, environment(name, variable)?),
        (Some(text), None) => (text, text.to_owned()),
        (None, None) => return Err(not_understood()),
    };
    for stage in stages {
        let wrong = |kind: &str| format!("environment variable '{name}': its value is not {kind}");
        let (function, argument) = stage.split_once(char::is_whitespace).unwrap_or((stage, ""));
        value = match (function, argument.trim()) {
            ("toBool", "") => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => "true".into(),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => "false".into(),
                _ => return Err(wrong("a boolean")),
            },
            ("toInt", "") => value.parse::<i64>().map_err(|_| wrong("an integer"))?.to_string(),
            ("toFloat", "") => {
                let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
                number.ok_or_else(|| wrong("a number"))?.to_string()
            }
            ("indent", count) => {
                let count: usize = count.parse().map_err(|_| not_understood())?;
                if count > MOST_INDENTED {
                    return Err(format!("indent {count}: at most {MOST_INDENTED} spaces can be put in"));
                }
                value.replace('\n', &format!("\n{}", " ".repeat(count)))
            }
            ("printf", format) => {
                let format = quoted(format).ok_or_else(not_understood)?;
                format
                    .replace("%q", &Value::from(value.as_str()).to_string())
                    .replace("%s", &value)
                    .replace("%v", &value)
            }
            _ => return Err(not_understood()),
        };
    }
    Ok(value)
}

const MOST_INDENTED: usize = 1000;

/// The text of a literal in quotes.
fn quoted(text: &str) -> Option<&str> {
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('`'))
}

fn environment(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if !name.starts_with("DECK_") {
        return Err(format!(
            "environment variables in the state file must be prefixed with 'DECK_', found: '{name}'"
        ));
    }
    variable(name).ok_or_else(|| format!("environment variable '{name}' present in state file but not set"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        let value = match name {
            "DECK_KEY" => "sk",
            "DECK_PORT" => "80",
            "DECK_YES" => "T",
            "DECK_RATE" => "1.50",
            "DECK_LINES" => "a\nb",
            "DECK_EMPTY" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn expressions() {
        let cases = [
            ("a: Bearer ${{ env \"DECK_KEY\" }}", "a: Bearer sk"),
            ("a: \"${{ env \"DECK_KEY\" }}\"", "a: \"sk\""),
            ("# ${{ env \"X\" }}\np: ${{env \"DECK_PORT\" | toInt}}", "# ${{ env \"X\" }}\np: 80"),
            ("  # ${{ env \"X\" }} ${{", "  # ${{ env \"X\" }} ${{"),
            ("${{ env \"DECK_YES\" | toBool }}", "true"),
            ("${{ env \"DECK_RATE\" | toFloat }}", "1.5"),
            ("k: |\n  ${{ env \"DECK_LINES\" | indent 2 }}", "k: |\n  a\n  b"),
            ("${{ env `DECK_KEY` }}${{/* said */}}", "sk"),
            ("a: ${{- env \"DECK_KEY\" }}", "a:sk"),
            ("a  ${{- \"x\" -}}  b", "axb"),
            ("a  ${{ env \"DECK_KEY\" -}}  \n b", "a  skb"),
            ("a  ${{- env \"DECK_KEY\" }}", "ask"),
            ("${{ env \"DECK_KEY\" | printf \"%q/%s\" }}", "\"sk\"/sk"),
            ("[${{ env \"DECK_EMPTY\" }}]", "[]"),
            ("{a: ${{ env \"DECK_PORT\" }}}", "{a: 80}"),
        ];
        for (text, expected) in cases {
            assert_eq!(substitute("f", text, &variable).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn errors_name_the_line() {
        let cases = [
            (
                "\na: ${{ env \"DECK_NONE\" }}",
                "f:2: environment variable 'DECK_NONE' present in state file but not set",
            ),
            (
                "${{ env \"HOME\" }}",
                "f:1: environment variables in the state file must be prefixed with 'DECK_', found: 'HOME'",
            ),
            (
                "${{ env \"DECK_KEY\" | toInt }}",
                "f:1: environment variable 'DECK_KEY': its value is not an integer",
            ),
            (
                "a: ${{ env \"DECK_KEY\" }}\nb: ${{ env \"DECK_KEY\" | toBool }}",
                "f:2: environment variable 'DECK_KEY': its value is not a boolean",
            ),
            ("a: 1\nb: ${{ env \"DECK_KEY\"", "f:2: an expression ${{ … has no end"),
            ("${{ exec \"ls\" }}", "f:1: 'exec \"ls\"' is not understood"),
            ("${{ env \"DECK_KEY\" | upper }}", "f:1: 'env \"DECK_KEY\" | upper' is not understood"),
            ("${{ env \"DECK_KEY\" | indent 99999999 }}", "f:1: indent 99999999: at most"),
        ];
        for (text, expected) in cases {
            let found = substitute("f", text, &variable).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{text:?}: {found}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(\\PC|[${}|\"\n# -]|env){0,80}") {
            let _ = substitute("f", &text, &variable);
        }
    }
}
