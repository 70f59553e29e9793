//! Values of plain scalars, as decK's and Kong's YAML libraries read them: YAML 1.1.

use serde_json::Value;

/// A plain scalar's value. `y`, `yes`, `on` and the like are booleans; numbers may be hexadecimal, octal or
/// binary and hold underscores; dates stay text.
pub(crate) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => {
            return Value::Bool(true);
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    number(text).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    let bare = text.replace('_', "");
    let (negative, digits) = match bare.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, bare.strip_prefix('+').unwrap_or(&bare)),
    };
    let based = |digits: &str, base: u32| {
        let unsigned = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let number = i64::from_str_radix(digits, base).ok().filter(|_| unsigned && !digits.is_empty())?;
        Some(Value::from(if negative { -number } else { number }))
    };
    let prefixed = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)]
        .into_iter()
        .find_map(|(prefix, base)| digits.strip_prefix(prefix).map(|rest| based(rest, base)));
    if let Some(number) = prefixed {
        return number;
    }
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole
        && digits.len() > 1
        && digits.starts_with('0')
        && let Some(number) = based(digits, 8)
    {
        return Some(number);
    }
    if whole {
        if let Ok(number) = digits.parse::<i64>() {
            return Some(Value::from(if negative { -number } else { number }));
        }
        if let Some(number) = digits.parse::<u64>().ok().filter(|_| !negative) {
            return Some(Value::from(number));
        }
    }
    let float: f64 = is_float(digits).then(|| bare.parse().ok()).flatten()?;
    float.is_finite().then(|| Value::from(float))
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, with an exponent or none.
fn is_float(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (digits, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    all_digits(before)
        && all_digits(after)
        && !(before.is_empty() && after.is_empty())
        && exponent.is_none_or(|text| !text.is_empty() && all_digits(text))
}
