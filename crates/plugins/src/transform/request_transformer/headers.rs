//! Edits of header fields.

use tollgate_gateway::Exchange;

use crate::transform::edits::Rendered;

/// Edits the header fields that are sent on. `Host` is left alone by all but `replace`, which always sets it
/// (Kong 3.11); a field whose value becomes empty is not sent.
pub(super) fn edit(exchange: &mut Exchange, edits: &Rendered<'_>) {
    let is_host = |name: &str| name.eq_ignore_ascii_case("host");
    let headers = &mut exchange.head.headers;
    for name in edits.remove.iter().filter(|name| !is_host(name)) {
        headers.remove(name);
    }
    for (old, new) in &edits.rename {
        let Ok(new) = std::str::from_utf8(new) else { continue };
        if is_host(old) || is_host(new) || !headers.contains(old) {
            continue;
        }
        if old.eq_ignore_ascii_case(new) {
            headers.rename(old, new);
        } else {
            headers.remove(new);
            headers.rename(old, &new.to_ascii_lowercase());
        }
    }
    for (name, value) in &edits.replace {
        if is_host(name) {
            exchange.upstream_host = Some(String::from_utf8_lossy(value).into());
        } else if value.is_empty() {
            headers.remove(name);
        } else if headers.contains(name) {
            headers.set(name, value);
        }
    }
    for (name, value) in &edits.add {
        if !is_host(name) && !value.is_empty() && !headers.contains(name) {
            headers.append(name, value);
        }
    }
    for (name, value) in edits.append.iter().filter(|(name, value)| !is_host(name) && !value.is_empty()) {
        headers.rename(name, name);
        headers.append(name, value);
    }
}
