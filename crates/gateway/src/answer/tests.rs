use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn request(method: Method, version: Version, fields: &[(&str, &str)]) -> RequestHead {
    let mut headers = Headers::new();
    fields.iter().for_each(|(name, value)| headers.append(name, value));
    RequestHead { method, target: Bytes::from_static(b"/"), version, headers }
}

fn get(fields: &[(&str, &str)]) -> RequestHead {
    request(Method::GET, Version::HTTP_11, fields)
}

fn parts(response: &Response) -> (u16, Option<&str>, &[u8]) {
    let body: &[u8] = match &response.body {
        Body::Full(bytes) => bytes,
        _ => b"",
    };
    (response.status.as_u16(), response.headers.get_str("content-type"), body)
}

const JSON: &str = "application/json; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const XML: &str = "application/xml; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

#[test]
fn the_accepted_type_is_chosen() {
    for (accept, expected) in [
        ("*/*", ContentType::Json),
        ("text/html", ContentType::Html),
        ("Text/HTML; charset=utf-8", ContentType::Html),
        ("text/*", ContentType::Plain),
        ("text/xml", ContentType::Json),
        ("image/png", ContentType::Json),
        ("application/grpc", ContentType::Grpc),
        ("application/xml;q=0.5, text/html;q=0.9", ContentType::Html),
        ("text/html;q=0, text/plain;q=0.1", ContentType::Plain),
        ("text/html;q=0", ContentType::Json),
        ("application/*, text/html", ContentType::Json),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", ContentType::Html),
        ("text/html;q=0.5, image/png", ContentType::Json),
        ("text/plain ; level=1 ; Q = 0.7 , application/xml;q=0.8", ContentType::Xml),
        ("text/plain;q=nonsense, application/xml;q=0.8", ContentType::Plain),
        ("text/plain;q=nan", ContentType::Plain),
        (",,;;=, none, text/html", ContentType::Html),
        ("", ContentType::Json),
    ] {
        assert_eq!(preferred(accept), expected, "{accept}");
    }
}

#[test]
fn bodies_are_those_of_kong_to_the_byte() {
    let id = RequestId::new();
    let settings = ErrorSettings::default();
    for (accept, kind, body) in [
        (None, JSON, format!("{{\n  \"message\":\"{NO_ROUTE}\",\n  \"request_id\":\"{id}\"\n}}")),
        (Some("text/plain"), PLAIN, format!("{NO_ROUTE}\nrequest_id: {id}\n")),
        (
            Some("application/xml"),
            XML,
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{NO_ROUTE}</message>\n  <requestid>{id}</requestid>\n</error>\n"
            ),
        ),
        (
            Some("text/html"),
            HTML,
            format!(
                "<!doctype html>\n<html>\n  <head>\n    <meta charset=\"utf-8\">\n    <title>Error</title>\n  </head>\n  <body>\n    <h1>Error</h1>\n    <p>{NO_ROUTE}.</p>\n    <p>request_id: {id}</p>\n  </body>\n</html>\n"
            ),
        ),
    ] {
        let head = get(accept.map(|accept| ("Accept", accept)).as_slice());
        let response = negotiated(StatusCode::NOT_FOUND, NO_ROUTE, &head, &id, &settings);
        assert_eq!(parts(&response), (404, Some(kind), body.as_bytes()));
    }
}

/// Lengths of Kong's own answers; the request id is always 32 bytes.
#[test]
fn bodies_are_as_long_as_those_of_kong() {
    for (status, message, accept, length) in [
        (404, NO_ROUTE, "*/*", 103),
        (404, NO_ROUTE, "text/html", 243),
        (401, "No API key found in request", "*/*", 96),
        (401, "No API key found in request", "application/xml", 163),
        (401, "Unauthorized", "*/*", 81),
        (502, "An invalid response was received from the upstream server", "*/*", 126),
        (502, "An invalid response was received from the upstream server", "text/html", 266),
        (400, "Bad request", "text/plain", 57),
        (400, "Request header or cookie too large", "text/plain", 80),
        (405, "Method not allowed", "text/plain", 64),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let response = negotiated(
            status,
            message,
            &get(&[("Accept", accept)]),
            &RequestId::new(),
            &ErrorSettings::default(),
        );
        assert_eq!(response.body.remaining(), Some(length), "{message} as {accept}");
    }
}

#[test]
fn low_level_errors_go_by_accept_then_content_type_then_the_setting() {
    let id = RequestId::new();
    let html = ErrorSettings { default_type: ContentType::Html, ..ErrorSettings::default() };
    for (fields, settings, expected) in [
        (&[("Accept", "*/*"), ("Content-Type", "text/html")][..], ErrorSettings::default(), JSON),
        (&[("Content-Type", "text/html; charset=utf-8")], ErrorSettings::default(), HTML),
        (&[("Content-Type", "application/x-www-form-urlencoded")], ErrorSettings::default(), JSON),
        (&[], ErrorSettings::default(), PLAIN),
        (&[], html, HTML),
    ] {
        let response = low_level(StatusCode::BAD_GATEWAY, "m", Some(&get(fields)), &id, &settings);
        assert_eq!(parts(&response).1, Some(expected), "{fields:?}");
    }
    let response = refusal(Refusal::BadRequest, None, &id, &ErrorSettings::default());
    assert_eq!(parts(&response), (400, Some(PLAIN), format!("Bad request\nrequest_id: {id}\n").as_bytes()));
}

#[test]
fn refusals_have_kongs_statuses() {
    for (refused, status, message) in [
        (Refusal::BadRequest, 400, "Bad request"),
        (Refusal::PlainOnTls, 400, "Bad request"),
        (Refusal::HeadersTooLarge, 400, "Request header or cookie too large"),
        (Refusal::UriTooLong, 414, "URI too long"),
        (Refusal::Timeout, 408, "Request timeout"),
        (Refusal::BodyTooLarge, 413, "Payload too large"),
        (Refusal::MethodNotAllowed, 405, "Method not allowed"),
        (Refusal::NotImplemented, 501, "Not implemented"),
    ] {
        let id = RequestId::new();
        let response = refusal(refused, None, &id, &ErrorSettings::default());
        assert_eq!(
            parts(&response),
            (status, Some(PLAIN), format!("{message}\nrequest_id: {id}\n").as_bytes())
        );
    }
}

#[test]
fn an_answer_to_head_says_how_long_it_would_have_been() {
    let head = request(Method::HEAD, Version::HTTP_11, &[]);
    let mut response =
        refusal(Refusal::BadRequest, Some(&head), &RequestId::new(), &ErrorSettings::default());
    drop_body(&mut response);
    assert_eq!((response.headers.get_str("content-length"), parts(&response).2), (Some("57"), &b""[..]));
}

#[test]
fn grpc_requests_get_a_grpc_status_and_no_body() {
    let head = request(
        Method::POST,
        Version::HTTP_2,
        &[("content-type", "application/grpc+proto"), ("accept", "text/html")],
    );
    let id = RequestId::new();
    for (status, code, name) in [
        (400, "3", "InvalidArgument"),
        (401, "16", "Unauthenticated"),
        (403, "7", "PermissionDenied"),
        (404, "5", "NotFound"),
        (409, "6", "AlreadyExists"),
        (418, "3", "InvalidArgument"),
        (429, "8", "ResourceExhausted"),
        (499, "1", "Canceled"),
        (500, "13", "Internal"),
        (501, "12", "Unimplemented"),
        (502, "13", "Internal"),
        (503, "14", "Unavailable"),
        (504, "4", "DeadlineExceeded"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let response = negotiated(status, "m", &head, &id, &ErrorSettings::default());
        let fields = (response.headers.get_str("grpc-status"), response.headers.get_str("grpc-message"));
        assert_eq!(
            (parts(&response), fields),
            ((status.as_u16(), Some("application/grpc"), &b""[..]), (Some(code), Some(name)))
        );
    }
    let response = low_level(StatusCode::BAD_GATEWAY, "broken", Some(&head), &id, &ErrorSettings::default());
    assert_eq!(response.headers.get_str("grpc-message"), Some("broken"));
    let old = request(Method::POST, Version::HTTP_11, &[("content-type", "application/grpc")]);
    assert_eq!(
        parts(&negotiated(StatusCode::NOT_FOUND, "m", &old, &id, &ErrorSettings::default())).1,
        Some(JSON)
    );
}

#[test]
fn templates_of_ones_own_are_filled() {
    let id = RequestId::new();
    for (template, expected) in [
        ("{\"error\": \"%s\", \"id\": \"%s\"}", format!("{{\"error\": \"m %s\", \"id\": \"{id}\"}}")),
        ("only %s", "only m %s".to_owned()),
        ("none", "none".to_owned()),
        ("%s%s%s", format!("m %s{id}")),
    ] {
        let settings = ErrorSettings { json: Some(template.into()), ..ErrorSettings::default() };
        let response = negotiated(StatusCode::NOT_FOUND, "m %s", &get(&[]), &id, &settings);
        assert_eq!(parts(&response), (404, Some(JSON), expected.as_bytes()));
    }
}

#[test]
fn statuses_without_a_message_have_kongs() {
    for (status, message) in [
        (404, "Not found"),
        (500, UNEXPECTED),
        (504, "The upstream server is timing out"),
        (418, "I'm a teapot"),
    ] {
        assert_eq!(default_message(StatusCode::from_u16(status).unwrap()), message);
    }
    assert_eq!(default_message(StatusCode::from_u16(599).unwrap()), "The upstream server responded with 599");
}

#[test]
fn an_exit_is_compact_json() {
    let response = json(StatusCode::FORBIDDEN, &serde_json::json!({"message": "no \"way\""}));
    assert_eq!(parts(&response), (403, Some(JSON), &br#"{"message":"no \"way\""}"#[..]));
}

proptest! {
    #[test]
    fn any_header_value_gets_an_answer(accept in "\\PC*", listed in "([a-z*]{0,4}/[a-z*]{0,4}(; ?q=[0-9.]{0,4})?,? ?){0,4}") {
        for value in [accept, listed] {
            let head = get(&[("Accept", &value), ("Content-Type", &value)]);
            let response = negotiated(StatusCode::NOT_FOUND, NO_ROUTE, &head, &RequestId::new(), &ErrorSettings::default());
            prop_assert!(parts(&response).1.is_some());
        }
    }
}
