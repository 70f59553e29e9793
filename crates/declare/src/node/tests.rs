use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn values_and_lines() {
    let text =
        "a: &x\n  port: 80\n  on: yes\nb:\n- <<: *x\n  port: 0o17\n- \"80\"\n- 1.5\n- 10.0.0.1\n- {k: ~}\n";
    let node = Node::parse("f", text).unwrap();
    assert_eq!(node.line_of("b[3]"), 8);
    assert_eq!(node.line_of("a.port"), 2);
    assert_eq!(node.line_of("b[1].port"), 6);
    assert_eq!(
        node.into_value(),
        json!({"a": {"port": 80, "on": true}, "b": [{"port": 15, "on": true}, "80", 1.5, "10.0.0.1", {"k": null}]})
    );
}

#[test]
fn plain_scalars_are_yaml_1_1() {
    let cases = [
        ("y", json!(true)),
        ("N", json!(false)),
        ("Off", json!(false)),
        ("yEs", json!("yEs")),
        ("~", json!(null)),
        ("017", json!(15)),
        ("08", json!(8)),
        ("0o17", json!(15)),
        ("0x1F", json!(31)),
        ("-0x1", json!(-1)),
        ("0b101", json!(5)),
        ("0xZZ", json!("0xZZ")),
        ("1_000", json!(1000)),
        ("+1", json!(1)),
        ("-7", json!(-7)),
        ("9223372036854775808", json!(9_223_372_036_854_775_808_u64)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("1.", json!(1.0)),
        (".inf", json!(".inf")),
        ("1.2.3", json!("1.2.3")),
        ("2001-12-14", json!("2001-12-14")),
        ("12:30", json!("12:30")),
        ("-", json!("-")),
        ("1e", json!("1e")),
        ("123abc", json!("123abc")),
    ];
    for (text, expected) in cases {
        assert_eq!(plain(text), expected, "{text}");
    }
}

#[test]
fn tags_quotes_and_blocks_make_text() {
    let value = |text: &str| Node::parse("f", text).unwrap().into_value();
    assert_eq!(
        value("a: !!str 80\nb: 'yes'\nc: \"1\"\nd: |\n  80\ne: !!int \"5\""),
        json!({
            "a": "80", "b": "yes", "c": "1", "d": "80\n", "e": 5
        })
    );
}

#[test]
fn merges() {
    let text = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc: {<<: [*a, *b], y: 3}\nd: {'<<': 1}\n";
    let value = Node::parse("f", text).unwrap().into_value();
    assert_eq!(value["c"], json!({"y": 3, "x": 1, "z": 2}));
    assert_eq!(value["d"], json!({"<<": 1}));
}

#[test]
fn json_has_lines_too() {
    let text = "{\n \"a\": [1, true,\n  {\"b\": \"\\u00e4\\\"\\ud83d\\ude00\"}],\n \"c\": null\n}\n";
    let node = Node::parse("f.json", text).unwrap();
    assert_eq!((node.line_of("a[3].b"), node.line_of("c"), node.line_of("a")), (3, 4, 2));
    assert_eq!(node.into_value(), json!({"a": [1, true, {"b": "ä\"😀"}], "c": null}));
    assert_eq!(Node::parse("f", "{a: [b, 'c']}").unwrap().into_value(), json!({"a": ["b", "c"]}));
}

#[test]
fn errors_name_the_line() {
    let cases = [
        ("a: 1\na: 2\n", "f.yaml:2: the key 'a' stands twice in one mapping"),
        ("{\"a\": 1,\n\"a\": 2}", "f.yaml:2: the key 'a' stands twice in one mapping"),
        ("a:\n  - b\n c: [\n", "f.yaml:3: the YAML cannot be read at column "),
        ("a: *none\n", "f.yaml:1: the YAML cannot be read at column "),
        ("a: 1\n---\nb: 2\n", "f.yaml:3: there is more than one document in the file"),
        ("<<: 1\n", "f.yaml:1: '<<' merges mappings"),
        ("? [a]\n: b\n", "f.yaml:1: a mapping's key must be a plain value"),
    ];
    for (text, expected) in cases {
        let message = Node::parse("f.yaml", text).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{text:?}: {message}");
    }
}

#[test]
fn documents_made_to_exhaust_are_refused() {
    let deep = format!("a: {}", "[".repeat(100_000));
    let message = Node::parse("f", &deep).unwrap_err().message;
    assert!(message.contains("deeper than 64 levels"), "{message}");
    let deep = "{\"a\":".repeat(50_000);
    assert!(Node::parse("f", &deep).unwrap_err().message.contains("deeper than 64 levels"));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let list = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
    }
    assert!(Node::parse("f", &bomb).unwrap_err().message.contains("aliases (*) expand to more than"));
}

proptest! {
    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,200}") {
        let _ = Node::parse("f", &text);
    }

    #[test]
    fn yaml_like_text_neither(text in "[a-c:\\-\\[\\]{}&*<>|\"'# \n,!~0]{0,160}") {
        let _ = Node::parse("f", &text);
    }

    #[test]
    fn nor_do_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Node::parse("f", &String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn what_was_read_is_read_again(text in "[a-c:\\-\\[\\]{} \n,0-9.ey~\"]{0,160}") {
        if let Ok(node) = Node::parse("f", &text) {
            let value = node.into_value();
            // A document that is one plain word is no JSON text of an object or list.
            if value.is_object() || value.is_array() {
                let again = Node::parse("f", &value.to_string()).unwrap().into_value();
                prop_assert_eq!(again, value);
            }
        }
    }
}
