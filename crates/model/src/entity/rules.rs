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

/// An address or name with an optional port, read as Kong reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The name or address in its full form; an IPv6 address in brackets.
    pub host: String,
    /// Whether it is a name.
    pub is_name: bool,
    /// The port.
    pub port: Option<u16>,
}

const BAD_PORT: &str = "invalid port number";

impl Address {
    /// Reads a text. Two colons make an IPv6 address, digits and dots an IPv4 address, all else a name
    /// (Kong 3.11).
    ///
    /// # Errors
    /// Kong's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let colons = text.matches(':').count();
        if colons > 1 {
            return Self::ipv6(text).ok_or_else(|| format!("invalid ipv6 address: {text}"))?;
        }
        let bare = text.replace(':', "");
        if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Self::ipv4(text).ok_or_else(|| format!("invalid ipv4 address: {text}"))?;
        }
        Self::name(text)
    }

    fn ipv4(text: &str) -> Option<Result<Self, String>> {
        let (address, port) = text.split_once(':').map_or((text, None), |(a, port)| (a, Some(port)));
        let parts: Vec<&str> = address.split('.').collect();
        let mut numbers = Vec::new();
        for part in &parts {
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            numbers.push(part.parse::<u16>().ok().filter(|number| digits && *number <= 255)?.to_string());
        }
        if numbers.len() != 4 {
            return None;
        }
        let port = match port {
            Some(digits) if !is_digits(digits) => return None,
            Some(digits) => match digits.parse() {
                Ok(port) => Some(port),
                Err(_) => return Some(Err(BAD_PORT.to_owned())),
            },
            None => None,
        };
        Some(Ok(Self { host: numbers.join("."), is_name: false, port }))
    }

    fn ipv6(text: &str) -> Option<Result<Self, String>> {
        let (address, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                match rest.strip_prefix(':') {
                    Some(digits) if is_digits(digits) => match digits.parse() {
                        Ok(port) => (address, Some(port)),
                        Err(_) => return Some(Err(BAD_PORT.to_owned())),
                    },
                    None if rest.is_empty() => (address, None),
                    _ => return None,
                }
            }
            None => (text, None),
        };
        let address: std::net::Ipv6Addr = address.parse().ok()?;
        let parts: Vec<String> = address.segments().iter().map(|part| format!("{part:04x}")).collect();
        Some(Ok(Self { host: format!("[{}]", parts.join(":")), is_name: false, port }))
    }

    fn name(text: &str) -> Result<Self, String> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, digits)) if is_digits(digits) => {
                (name, Some(digits.parse().map_err(|_| BAD_PORT.to_owned())?))
            }
            _ => (text, None),
        };
        if is_hostname(name) {
            Ok(Self { host: name.to_owned(), is_name: true, port })
        } else {
            Err(format!("invalid hostname: {text}"))
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A host without port: an address or a name.
pub fn host(value: &Value) -> Result<(), String> {
    match Address::parse(text(value)) {
        Err(message) if message != BAD_PORT => Err(format!("invalid value: {}", text(value))),
        Ok(Address { port: None, .. }) => Ok(()),
        _ => Err("must not have a port".into()),
    }
}

/// A host with an optional port.
pub fn host_with_optional_port(value: &Value) -> Result<(), String> {
    Address::parse(text(value)).map(|_| ())
}

/// An address or a range of addresses.
pub fn ip_or_cidr(value: &Value) -> Result<(), String> {
    let wrong = || format!("invalid ip or cidr range: '{}'", text(value));
    let (address, bits) =
        text(value).split_once('/').map_or((text(value), None), |(a, bits)| (a, Some(bits)));
    let address: std::net::IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    match bits {
        None => Ok(()),
        Some(bits) if is_digits(bits) && bits.parse::<u8>().is_ok_and(|bits| bits <= most) => Ok(()),
        Some(_) => Err(wrong()),
    }
}

/// Whether labels of letters, digits, `-` and `_` make up a name; no label ends with `-`, only the last may be
/// empty (Kong 3.11).
pub fn is_hostname(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let whole = name.strip_suffix('.').unwrap_or(name);
    !name.is_empty()
        && name.bytes().all(allowed)
        && whole.split('.').all(|label| !label.is_empty() && !label.ends_with('-'))
}

/// A path: only characters a path may hold, whole percent triplets.
pub fn path(value: &Value) -> Result<(), String> {
    let path = text(value);
    if !is_plain_path(path) {
        return Err(format!(
            "invalid path: '{path}' (characters outside of the reserved list of RFC 3986 found)"
        ));
    }
    percent_triplets(path)
}

fn is_plain_path(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~/%:@!$&'()*+,;=".contains(&byte);
    path.starts_with('/') && path.bytes().all(allowed)
}

fn percent_triplets(path: &str) -> Result<(), String> {
    let mut rest = path.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        rest = &rest[at..];
        let digits = rest.get(1..3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            let triplet = String::from_utf8_lossy(rest.get(..3).unwrap_or(rest)).into_owned();
            return Err(format!("invalid url-encoded value: '{triplet}'"));
        }
        rest = &rest[3..];
    }
    Ok(())
}

/// A route's path after its start has been checked: `/…` as a prefix in its normal form, or `~/…` as a regex.
pub fn route_path(value: &Value) -> Result<(), String> {
    let path = text(value);
    if let Some(pattern) = path.strip_prefix('~') {
        return regex::Regex::new(pattern).map(|_| ()).map_err(|error| {
            format!("invalid regex: '{pattern}' (PCRE returned: {})", last_line(&error.to_string()))
        });
    }
    if is_plain_path(path) {
        percent_triplets(path)?;
    }
    let normal = normalize(path);
    if normal == path.as_bytes() {
        return Ok(());
    }
    let normal = String::from_utf8_lossy(&normal);
    Err(format!("non-normalized path, consider use '{normal}' instead"))
}

fn last_line(message: &str) -> &str {
    message.lines().last().unwrap_or(message).trim_start_matches("error: ")
}

/// Decodes all triplets but those of reserved characters, which are upper-cased; resolves dot segments and
/// repeated slashes (Kong 3.11).
fn normalize(path: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                if b"!*'();:@&=+$,/?%#[]".contains(&byte) {
                    decoded.extend(format!("%{byte:02X}").bytes());
                } else {
                    decoded.push(byte);
                }
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let parts: Vec<&[u8]> = decoded.split(|byte| *byte == b'/').skip(1).collect();
    for part in &parts {
        match *part {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut out = Vec::with_capacity(decoded.len());
    for segment in &segments {
        out.push(b'/');
        out.extend(*segment);
    }
    let open = parts.last().is_some_and(|last| matches!(*last, b"" | b"." | b".."));
    if open || out.is_empty() {
        out.push(b'/');
    }
    out
}

/// A route's host after its wildcard has been checked.
pub fn route_host(value: &Value) -> Result<(), String> {
    Address::parse(&text(value).replace('*', "abc")).map(|_| ())
}

/// A server name of TLS, with a wildcard at either end.
pub fn server_name_or_wildcard(value: &Value) -> Result<(), String> {
    let name = text(value);
    match name.find('*') {
        Some(at) if at != 0 && at != name.len() - 1 => {
            Err("wildcard must be leftmost or rightmost character".into())
        }
        Some(_) if name.matches('*').count() > 1 => Err("only one wildcard must be specified".into()),
        // Messages show the word that stands in for the wildcard (Kong 3.11).
        _ => plain_server_name(&name.replace('*', "wildcard")),
    }
}

/// A server name of TLS.
pub fn server_name(value: &Value) -> Result<(), String> {
    plain_server_name(text(value))
}

fn plain_server_name(name: &str) -> Result<(), String> {
    match Address::parse(name) {
        Err(message) if message != BAD_PORT => Err(format!("invalid value: {name}")),
        Ok(address) if !address.is_name => Err("must not be an IP".into()),
        Ok(Address { port: None, .. }) => Ok(()),
        _ => Err("must not have a port".into()),
    }
}

/// A cookie's name: a token of HTTP.
pub fn cookie_name(value: &Value) -> Result<(), String> {
    let forbidden = |byte: u8| byte.is_ascii_control() || b" \t()<>@,;:\\\"/?={}[]".contains(&byte);
    if !text(value).bytes().any(forbidden) {
        return Ok(());
    }
    Err("contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the \
         characters ()<>@,;:\\\"/?={}[] are not allowed."
        .into())
}

/// Characters of a header name.
pub fn header_name(value: &Value) -> Result<(), String> {
    let name = text(value);
    if name.is_empty() {
        return Err("no header name provided".into());
    }
    if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Ok(());
    }
    Err(format!("bad header name '{name}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"))
}
