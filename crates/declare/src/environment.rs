//! `${{ env "DECK_X" | toBool }}`: values of the environment in files, replaced before YAML is read.

use crate::Problem;

/// Replaces every expression. Lines that are comments are left alone.
///
/// # Errors
/// decK's messages: a variable that is missing or not called `DECK_…`, a value that is not what it should be.
pub fn substitute(
    file: &str,
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Problem> {
    if !text.contains("${{") {
        return Ok(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_start().starts_with('#') {
            out.push_str(line);
            continue;
        }
        let mut rest = line;
        while let Some(start) = rest.find("${{") {
            let Some(end) = rest[start..].find("}}").map(|end| start + end) else { break };
            out.push_str(&rest[..start]);
            let value = evaluate(&rest[start + 3..end], variable).map_err(|message| Problem {
                file: file.to_owned(),
                line: number + 1,
                path: String::new(),
                message,
            })?;
            out.push_str(&value);
            rest = &rest[end + 2..];
        }
        out.push_str(rest);
    }
    Ok(out)
}

fn evaluate(expression: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let expression = expression.trim().trim_start_matches('-').trim_end_matches('-').trim();
    if expression.starts_with("/*") {
        return Ok(String::new());
    }
    let mut stages = expression.split('|').map(str::trim);
    let first = stages.next().unwrap_or_default();
    let name = first
        .strip_prefix("env")
        .map(str::trim)
        .and_then(|quoted| quoted.strip_prefix(['"', '`'])?.strip_suffix(['"', '`']))
        .ok_or_else(|| format!("'{expression}' is not understood; expected env \"DECK_…\", with toBool, toInt, toFloat or indent after a |"))?;
    if !name.starts_with("DECK_") {
        return Err(format!(
            "environment variables in the state file must be prefixed with 'DECK_', found: '{name}'"
        ));
    }
    let mut value = variable(name)
        .ok_or_else(|| format!("environment variable '{name}' present in state file but not set"))?;
    for stage in stages {
        let wrong = |kind: &str| format!("environment variable '{name}': its value is not {kind}");
        value = match stage {
            "toBool" => match value.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => "true".into(),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => "false".into(),
                _ => return Err(wrong("a boolean")),
            },
            "toInt" => value.parse::<i64>().map_err(|_| wrong("an integer"))?.to_string(),
            "toFloat" => {
                let number = value.parse::<f64>().ok().filter(|number| number.is_finite());
                number.ok_or_else(|| wrong("a number"))?.to_string()
            }
            _ => match stage.strip_prefix("indent").and_then(|count| count.trim().parse::<usize>().ok()) {
                Some(count) => value.replace('\n', &format!("\n{}", " ".repeat(count))),
                None => {
                    return Err(format!(
                        "'{stage}' is not understood; expected toBool, toInt, toFloat or indent N"
                    ));
                }
            },
        };
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_errors() {
        let variable = |name: &str| match name {
            "DECK_KEY" => Some("sk".to_owned()),
            "DECK_PORT" => Some("80".to_owned()),
            _ => None,
        };
        let run = |text: &str| substitute("f", text, &variable).map_err(|problem| problem.to_string());
        assert_eq!(
            run("a: Bearer ${{ env \"DECK_KEY\" }}\n# ${{ env \"X\" }}\np: ${{env \"DECK_PORT\" | toInt}}")
                .unwrap(),
            "a: Bearer sk\n# ${{ env \"X\" }}\np: 80"
        );
        assert_eq!(
            run("\na: ${{ env \"DECK_NONE\" }}").unwrap_err(),
            "f:2: environment variable 'DECK_NONE' present in state file but not set"
        );
        assert_eq!(
            run("${{ env \"HOME\" }}").unwrap_err(),
            "f:1: environment variables in the state file must be prefixed with 'DECK_', found: 'HOME'"
        );
        assert!(run("${{ env \"DECK_KEY\" | toInt }}").unwrap_err().contains("not an integer"));
    }
}
