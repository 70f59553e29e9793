//! Checks that several entities share.

use serde_json::Value;

/// A value checked as text; other types are the type check's business.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A name: letters, digits and `. - _ ~` of ASCII, and any other UTF-8 (Kong 3.11: `utf8_name`).
pub fn name(value: &Value) -> Result<(), String> {
    let name = text(value);
    let allowed = |character: char| {
        !character.is_ascii() || character.is_ascii_alphanumeric() || ".-_~".contains(character)
    };
    if name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "invalid value '{name}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"
    ))
}

/// A tag: printable ASCII without `,` and `/`, or any other UTF-8.
pub fn tag(value: &Value) -> Result<(), String> {
    let tag = text(value);
    let allowed = |character: char| {
        !character.is_ascii() || (' '..='~').contains(&character) && !",/".contains(character)
    };
    if tag.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "invalid tag '{tag}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    ))
}

/// A host without port: an address or a name.
pub fn host(value: &Value) -> Result<(), String> {
    let host = text(value);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    if let Some((name, port)) = host.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && is_hostname(name)
    {
        return Err("must not have a port".into());
    }
    if is_hostname(host) { Ok(()) } else { Err(format!("invalid value: {host}")) }
}

/// Whether labels of letters, digits, `-` and `_` make up a name.
pub fn is_hostname(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

/// A path: starts with `/`, no empty segment, only characters a path may hold, whole percent triplets.
pub fn path(value: &Value) -> Result<(), String> {
    let path = text(value);
    if !path.starts_with('/') {
        return Err("should start with: /".into());
    }
    if path.contains("//") {
        return Err("must not have empty segments".into());
    }
    path_characters(path)
}

fn path_characters(path: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte);
    if !path.bytes().all(allowed) {
        return Err(format!(
            "invalid path: '{path}' (characters outside of the reserved list of RFC 3986 found)"
        ));
    }
    percent_triplets(path)
}

fn percent_triplets(path: &str) -> Result<(), String> {
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let triplet = rest.get(at..at + 3).unwrap_or(&rest[at..]);
        let digits = triplet.as_bytes().get(1..).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("invalid url-encoded value: '{triplet}'"));
        }
        rest = &rest[at + 3..];
    }
    Ok(())
}

/// A route's path: `/…` as a prefix, or `~/…` as a regex.
pub fn route_path(value: &Value) -> Result<(), String> {
    let path = text(value);
    if let Some(pattern) = path.strip_prefix('~') {
        if !pattern.starts_with('/') {
            return Err("should start with: / (fixed path) or ~/ (regex path)".into());
        }
        return match regex::Regex::new(pattern) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(format!("invalid regex: '{pattern}' (PCRE returned: {})", last_line(&error.to_string())))
            }
        };
    }
    if !path.starts_with('/') {
        return Err("should start with: / (fixed path) or ~/ (regex path)".into());
    }
    if path.contains("//") {
        return Err("must not have empty segments".into());
    }
    path_characters(path)?;
    let normal = normalize(path);
    if normal == path { Ok(()) } else { Err(format!("non-normalized path, consider use '{normal}' instead")) }
}

fn last_line(message: &str) -> &str {
    message.lines().last().unwrap_or(message).trim_start_matches("error: ")
}

/// Decodes what needs no encoding, upper-cases the other triplets, and resolves dot segments.
fn normalize(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let triplet = &rest[at..at + 3];
        match u8::from_str_radix(&triplet[1..], 16) {
            Ok(byte)
                if byte.is_ascii()
                    && !byte.is_ascii_control()
                    && !b" !*'();:@&=+$,/?%#[]\"<>\\^`{|}".contains(&byte) =>
            {
                decoded.push(byte as char);
            }
            _ => decoded.push_str(&triplet.to_ascii_uppercase()),
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    let mut segments: Vec<&str> = Vec::new();
    let ends_open = decoded.ends_with('/') || decoded.ends_with("/.") || decoded.ends_with("/..");
    for segment in decoded.split('/').skip(1) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut out = format!("/{}", segments.join("/"));
    if ends_open && out.len() > 1 {
        out.push('/');
    }
    out
}

/// A route's host: a name with at most one `*` as its first or last label, and an optional port.
pub fn route_host(value: &Value) -> Result<(), String> {
    let host = text(value);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !host.starts_with('[') || name.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("invalid port number".into());
    }
    if name.matches('*').count() > 1 {
        return Err("invalid wildcard: must have at most one wildcard".into());
    }
    if name.contains('*') {
        let plain = name.strip_prefix("*.").or_else(|| name.strip_suffix(".*"));
        return match plain {
            Some(plain) if is_hostname(plain) => Ok(()),
            Some(_) => Err(format!("invalid hostname: {name}")),
            None => Err("invalid wildcard: must be placed at leftmost or rightmost label".into()),
        };
    }
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if is_hostname(name) || bare.parse::<std::net::IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(format!("invalid hostname: {name}"))
    }
}

/// A server name of TLS, with a wildcard at either end.
pub fn server_name(value: &Value) -> Result<(), String> {
    let name = text(value);
    if name.parse::<std::net::IpAddr>().is_ok() {
        return Err("must not be an IP".into());
    }
    if name.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err("must not have a port".into());
    }
    if name.matches('*').count() > 1 {
        return Err("only one wildcard must be specified".into());
    }
    if name == "*" {
        return Ok(());
    }
    let plain = match name.contains('*') {
        true => match name.strip_prefix("*.").or_else(|| name.strip_suffix(".*")) {
            Some(plain) => plain,
            None => return Err("wildcard must be leftmost or rightmost character".into()),
        },
        false => name,
    };
    if is_hostname(plain) { Ok(()) } else { Err(format!("invalid value: {name}")) }
}

/// Characters of a header name.
pub fn header_name(value: &Value) -> Result<(), String> {
    let name = text(value);
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Ok(());
    }
    Err(format!("bad header name '{name}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}
