//! How values are written: sizes, times, listeners, references to the environment.

use std::net::SocketAddr;
use std::time::Duration;

use tollgate_http::server::Listener;

/// The variable that a reference to the environment names (Kong 3.11: `{vault://env/my-secret}` is
/// `MY_SECRET`, `{vault://env/my-secret/key}` the member `key` of the JSON object in it); `None` for other
/// values.
pub(super) fn vault_variable(value: &str, prefix: &str) -> Option<(String, Option<String>)> {
    let reference = value.strip_prefix("{vault://env/")?.strip_suffix('}')?;
    let reference = reference.split(['?', '#']).next().unwrap_or_default();
    let (name, key) = match reference.trim_end_matches('/').split_once('/') {
        Some((name, key)) => (name, Some(key.to_owned())),
        None => (reference.trim_end_matches('/'), None),
    };
    Some((format!("{prefix}{name}").to_ascii_uppercase().replace('-', "_"), key))
}

/// The part of a line before a `#` that is not escaped.
pub(super) fn without_comment(line: &str) -> String {
    let mut out = String::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'#') => {
                out.push('#');
                characters.next();
            }
            '#' => break,
            other => out.push(other),
        }
    }
    out
}

/// A size: bytes, or with `k`, `m`, `g`.
pub(super) fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.trim().to_ascii_lowercase() {
        text if text.ends_with('k') => (text[..text.len() - 1].to_owned(), 1 << 10),
        text if text.ends_with('m') => (text[..text.len() - 1].to_owned(), 1 << 20),
        text if text.ends_with('g') => (text[..text.len() - 1].to_owned(), 1 << 30),
        text => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A time: seconds, or with `ms`, `s`, `m`, `h`.
pub(super) fn time(text: &str) -> Option<Duration> {
    let at = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..at].parse().ok()?;
    Some(match &text[at..] {
        "" | "s" => Duration::from_secs(number),
        "ms" => Duration::from_millis(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        _ => return None,
    })
}

/// Whether this can be the name of a header (RFC 9110 §5.6.2).
pub(super) fn is_header_name(name: &str) -> bool {
    let special = b"!#$%&'*+-.^_`|~";
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || special.contains(&byte))
}

/// An entry of a `…_listen` property; `off` is none.
pub(super) fn parse_listener(entry: &str) -> Result<Option<Listener>, String> {
    let mut words = entry.split_whitespace();
    let first = words.next().unwrap_or_default();
    if first == "off" {
        return Ok(None);
    }
    let address: SocketAddr = first
        .replace("localhost", "127.0.0.1")
        .parse()
        .map_err(|_| format!("'{first}' is no address with port, such as 0.0.0.0:8000 or [::]:8000"))?;
    let mut listener = Listener::plain(address);
    for word in words {
        match word {
            "ssl" => listener.ssl = true,
            "http2" => listener.http2 = true,
            "proxy_protocol" => listener.proxy_protocol = true,
            "reuseport" | "deferred" | "bind" => {}
            _ if word.starts_with("ipv6only=") || word.starts_with("so_keepalive=") => {}
            _ => match word.strip_prefix("backlog=").map(str::parse) {
                Some(Ok(backlog)) => listener.backlog = backlog,
                _ => {
                    return Err(format!(
                        "'{word}' is no flag of a listener; expected ssl, http2, proxy_protocol, reuseport or backlog=N"
                    ));
                }
            },
        }
    }
    Ok(Some(listener))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_comments_and_escapes() {
        assert_eq!(without_comment("a = b\\#c # d"), "a = b#c ");
        assert_eq!((size("8k"), size("10M"), size("x")), (Some(8192), Some(10 << 20), None));
        assert_eq!(
            (time("60s"), time("500ms"), time("1d")),
            (Some(Duration::from_secs(60)), Some(Duration::from_millis(500)), None)
        );
    }

    #[test]
    fn references_to_the_environment() {
        assert_eq!(vault_variable("{vault://env/my-secret}", ""), Some(("MY_SECRET".into(), None)));
        assert_eq!(vault_variable("{vault://env/db/pass}", "x_"), Some(("X_DB".into(), Some("pass".into()))));
        assert_eq!(vault_variable("{vault://aws/x}", ""), None);
    }
}
