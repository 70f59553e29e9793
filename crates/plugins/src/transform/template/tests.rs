use bytes::Bytes;
use proptest::prelude::*;
use tollgate_http::Headers;

use super::*;

fn headers() -> Headers {
    let mut headers = Headers::from_received(Bytes::new(), std::iter::empty());
    for (name, value) in [("Host", "a.test"), ("X-Twice", "1"), ("X-Twice", "2"), ("X-Under-Line", "u")] {
        headers.append(name, value);
    }
    headers
}

fn render(source: &str) -> Result<String, String> {
    let template = Template::new(source).map_err(|error| format!("refused: {error}"))?;
    let headers = headers();
    let captures = [("0", "/u/7"), ("user", "7"), ("1", "7")].map(|(name, text)| (name.into(), text.into()));
    let scope =
        Scope { headers: &headers, query: Some(b"q=20&flag&many=a&many=b&sp=x%20y"), captures: &captures };
    let rendered = template.render(&scope).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&rendered).into_owned())
}

#[test]
fn renders() {
    for (source, expected) in [
        ("plain $ and $5 and )", "plain $ and $5 and )"),
        ("$(", "$("),
        ("$(headers.host", "$(headers.host"),
        ("$(headers.host)", "a.test"),
        ("$(headers['Host'])", "a.test"),
        ("$(headers[\"HOST\"])", "a.test"),
        ("$(headers.x_under_line)", "u"),
        ("$(headers.missing)", ""),
        ("a$(headers.missing)b", "ab"),
        ("$(query_params.q)-$(uri_captures.user)", "20-7"),
        ("$(query_params.sp)", "x y"),
        ("$(query_params.flag)", "true"),
        ("$(query_params.many[2])", "b"),
        ("$(#query_params.many)", "2"),
        ("$(uri_captures[1])$(uri_captures[0])", "7/u/7"),
        ("$(uri_captures[\"user\"])", "7"),
        ("$(uri_captures.none or 'default1')", "default1"),
        ("$(shared.anything or 'none')", "none"),
        ("$('$(uri_captures.user1)')", "$(uri_captures.user1)"),
        (
            "$(type(headers['X-Twice']) == 'table' and headers['X-Twice'][1] .. '-first' or headers['X-Twice'])",
            "1-first",
        ),
        ("$(type(headers.host))", "string"),
        ("$(type(nothing))", "nil"),
        ("$(10 * uri_captures.user)", "70"),
        ("$(1 / 3)", "0.33333333333333"),
        ("$(2 ^ 3 ^ 2)", "512"),
        ("$(-2 ^ 2)", "-4"),
        ("$(1 + 2 * 3 - 4 % 3)", "6"),
        ("$(1 .. 2 .. 3)", "123"),
        ("$(1e3)$(0x10)", "100016"),
        ("$(1e20)", "1e+20"),
        ("$(not nil and 'yes')", "yes"),
        ("$(1 < 2 and 'a' < 'b' and 'yes' or 'no')", "yes"),
        ("$('10' == 10)", ""),
        ("$(headers.host:sub(1, 1):upper() .. ('ab'):rep(2))", "Aabab"),
        ("$(headers.host:sub(-4))", "test"),
        ("$(headers.host:len())", "6"),
        ("$('a\\'b\\65\\n')", "a'bA\n"),
        ("#literal", "#literal"),
    ] {
        assert_eq!(render(source), Ok(expected.to_owned()), "{source}");
    }
}

#[test]
fn fails_for_a_request() {
    for (source, error) in [
        ("$(10 * headers.host)", "attempt to perform arithmetic on a string value"),
        ("$(foo(headers.host))", "attempt to call a nil value"),
        ("$(string.sub('a', 1))", "attempt to index a nil value"),
        ("$(headers.missing.x)", "attempt to index a nil value"),
        ("$(headers.missing:upper())", "attempt to index a nil value"),
        ("$('a' .. nil)", "attempt to concatenate a nil value"),
        ("$(1 < 'a')", "attempt to compare number with string"),
        ("$(#nil)", "attempt to get length of a nil value"),
        ("$(type())", "bad argument #1 to 'type' (value expected)"),
        ("$(('aaaa'):rep(1000000))", "the text is longer than 65536 bytes"),
    ] {
        assert_eq!(render(source), Err(error.to_owned()), "{source}");
    }
}

#[test]
fn refuses_what_it_does_not_know() {
    for (source, error) in [
        ("$()", "unexpected end of the expression"),
        ("$(headers.)", "unexpected end of the expression"),
        ("$(shared.written = true)", "unexpected '=': values can be read, not assigned"),
        ("$(function() return 1 end)", "functions are not supported"),
        ("$({1, 2})", "tables ({ }) are not supported"),
        ("$([[a]])", "strings in [[ ]] are not supported; use quotes"),
        (
            "$(headers.host:gsub('a', 'b'))",
            "the method 'gsub' is not supported; len, lower, rep, reverse, sub and upper are",
        ),
        ("$('open)", "unfinished string 'open"),
        ("$(1 2)", "unexpected number 2"),
        ("$(a ! b)", "unexpected '!'"),
        ("$(headers.host headers.host)", "unexpected 'headers'"),
        ("$(if)", "unexpected 'if'"),
        ("$(1x)", "malformed number '1x'"),
    ] {
        assert_eq!(render(source), Err(format!("refused: {error}")), "{source}");
    }
    let deep = format!("$({}1{})", "(".repeat(100), ")".repeat(100));
    assert_eq!(render(&deep), Err("refused: nested deeper than 64".into()));
    let long = format!("$(1{})", "+1".repeat(1000));
    assert_eq!(render(&long), Err("refused: longer than 500 words and signs".into()));
}

proptest! {
    #[test]
    fn any_text_is_compiled_or_refused(source in "[$()a-z'\"\\[\\].:0-9 +=#\\\\{}é-]{0,60}") {
        let _ = render(&source);
    }

    #[test]
    fn text_without_placeholders_stands_for_itself(source in "[^$]{0,40}") {
        prop_assert_eq!(render(&source), Ok(source));
    }
}
