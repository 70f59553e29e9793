use std::sync::Arc;

use mlua::{IntoLua, MultiValue, Value as Lua51};
use tollgate_model::{Value, json};

use super::{Answer, check, run};
use crate::{LuaError, Source, pdk};

/// Runs text once; PDK functions answer with their own name.
fn lua(text: &str) -> Result<Value, LuaError> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    check(text)?;
    run(&Arc::new(Source { id, text: text.into() }), &pdk::names(), &named)
}

fn named(lua: &mlua::Lua, number: usize, arguments: &[Lua51]) -> Answer {
    let name = pdk::names()[number - 1];
    if name == "kong.request.get_header" && arguments.is_empty() {
        return Ok(Err("header name must be a string".into()));
    }
    Ok(Ok(MultiValue::from_iter([name.into_lua(lua)?])))
}

fn raised(text: &str) -> String {
    match lua(text) {
        Err(LuaError::Raised(message)) => message,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn snippets_return_values() {
    for (text, expected) in [
        ("return nil", json!(null)),
        ("", json!(null)),
        ("return", json!(null)),
        (" return  'a\\'b' ; ", json!("a'b")),
        ("return\"x\"", json!("x")),
        ("return -1.5", json!(-1.5)),
        ("return 2^40", json!(1_099_511_627_776_i64)),
        ("return 1e300", json!(1e300)),
        ("return 100.0", json!(100)),
        ("return true", json!(true)),
        ("return 1, 2", json!(1)),
        ("local x = 1 return x + 1", json!(2)),
        ("return 'a' .. 1", json!("a1")),
        ("return {}", json!({})),
        ("return {1, 'b', {c = true}}", json!([1, "b", {"c": true}])),
        ("return {nil, 2}", json!([null, 2])),
        ("return {a = 1, [5] = 2}", json!({"a": 1, "5": 2})),
        ("return ngx.null", json!(null)),
        ("return #'abc' .. ('x'):upper()", json!("3X")),
        ("return select('#', pcall(error, 'x'))", json!(2)),
        ("local ok, message = pcall(error, 'x') return message", json!("x")),
        (
            "return {xpcall(function() error('x', 0) end, function(message) return message .. '!' end)}",
            json!([false, "x!"]),
        ),
        ("return {xpcall(function() return 1, 2 end, error)}", json!([true, 1, 2])),
        ("return kong.request.get_method()", json!("kong.request.get_method")),
        ("return ngx.var.remote_addr", json!("ngx.variable")),
        ("kong.log('a', nil, 1) kong.log.err('b') ngx.log(ngx.ERR, 'c') return 1", json!(1)),
        ("kong.ctx.shared.x = 1 return kong.ctx.shared.x", json!(1)),
        ("return ngx.encode_base64('a?') .. tostring(ngx.decode_base64('!'))", json!("YT8=nil")),
        ("local t = {3, 1, 2} table.sort(t) return table.concat(t, ',')", json!("1,2,3")),
        ("return math.floor(2.7) + math.max(1, 2)", json!(4)),
        ("return type(os.time()) .. os.date('!%Y', 0)", json!("number1970")),
    ] {
        assert_eq!(lua(text), Ok(expected), "{text}");
    }
}

#[test]
fn strings_are_matched_as_lua_does() {
    for (text, expected) in [
        ("return {('hello'):find('l')}", json!([3, 3])),
        ("return {('hello'):find('(l)(l)')}", json!([3, 4, "l", "l"])),
        ("return {('a.b'):find('.', 1, true)}", json!([2, 2])),
        ("return {('a.b'):find('%.')}", json!([2, 2])),
        ("return {('abc'):find('c', -1)}", json!([3, 3])),
        ("return ('abc'):find('a', 2)", json!(null)),
        ("return {('abc'):find('', 10)}", json!({})),
        ("return {('abc'):find('', 4)}", json!([4, 3])),
        ("return ('Bearer abc'):match('^Bearer%s+(.+)$')", json!("abc")),
        ("return {('k=v'):match('(%w+)=(%w+)')}", json!(["k", "v"])),
        ("return ('2024-01-02'):match('%d+-%d+')", json!("2024-01")),
        ("return ('<a><b>'):match('<(.-)>')", json!("a")),
        ("return ('f(a(b)c)d'):match('%b()')", json!("(a(b)c)")),
        ("return ('THE (quick) fox'):find('%((%a+)%)')", json!(5)),
        ("return ('abab'):match('^(ab)%1$')", json!("ab")),
        ("return ('hello'):match('()ll()')", json!(3)),
        ("return ('x]y'):match('[]]')", json!("]")),
        ("return ('a-b'):match('[a%-]+')", json!("a-")),
        ("return ('aXb'):match('[^%l]')", json!("X")),
        ("return ('THE END'):gsub('%f[%a]%a+', 'w')", json!("w w")),
        ("return {('abc'):gsub('%w', '%0%0')}", json!(["aabbcc", 3])),
        ("return {('abc'):gsub('', '-')}", json!(["-a-b-c-", 4])),
        ("return {('hello world'):gsub('o', '0', 1)}", json!(["hell0 world", 1])),
        ("return {('abc'):gsub('^a', 'x')}", json!(["xbc", 1])),
        ("return ('$name'):gsub('%$(%w+)', {name = 'n'})", json!("n")),
        ("return ('$name $x'):gsub('%$(%w+)', {name = 'n'})", json!("n $x")),
        ("return ('abc'):gsub('%w', function(c) if c == 'b' then return 1 end end)", json!("a1c")),
        ("return ('100%'):gsub('%%', '%%25')", json!("100%25")),
        ("local n = 0 for w in ('one two  three'):gmatch('%S+') do n = n + 1 end return n", json!(3)),
        (
            "local t = {} for k, v in ('a=1&b=2'):gmatch('(%w)=(%w)') do t[k] = v end return t",
            json!({"a": "1", "b": "2"}),
        ),
        ("local n = 0 for _ in ('abc'):gmatch('') do n = n + 1 end return n", json!(4)),
        ("return string.format('%5.1f|%s|%q', 1.25, 'x', 'y')", json!("  1.2|x|\"y\"")),
        ("return {select(2, pcall(string.find, 'a', '('))}", json!(["unfinished capture"])),
        ("return {select(2, pcall(string.find, 'a', '%'))}", json!(["malformed pattern (ends with '%')"])),
        ("return {select(2, pcall(string.find, 'a', '[a'))}", json!(["malformed pattern (missing ']')"])),
    ] {
        assert_eq!(lua(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_lua_is_refused() {
    for text in ["returnnil", "return \"a", "if", "x", "return 1 1", "local", "\u{1b}Lua", "goto x"] {
        assert!(matches!(check(text), Err(LuaError::Syntax(_))), "{text}: {:?}", check(text));
    }
    let Err(LuaError::Syntax(message)) = check("return 1 1") else { panic!("it was compiled") };
    assert_eq!(message, "[string \"return 1 1\"]:1: '<eof>' expected near '1'");
}

#[test]
fn nothing_leads_out_of_the_sandbox() {
    for name in [
        "io",
        "debug",
        "package",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "getfenv",
        "setfenv",
        "getmetatable",
        "setmetatable",
        "rawget",
        "rawset",
        "rawequal",
        "newproxy",
        "module",
        "collectgarbage",
        "print",
        "coroutine",
        "gcinfo",
        "os.execute",
        "os.exit",
        "os.remove",
        "os.rename",
        "os.getenv",
        "os.tmpname",
        "os.setlocale",
        "string.dump",
        "string.rep",
        "('').rep",
        "('').dump",
        "math.randomseed",
        "table.foreach",
    ] {
        assert_eq!(lua(&format!("return {name}")), Ok(json!(null)), "{name}");
    }
    assert!(raised("('').upper = 1").contains("attempt to index"), "methods of strings stay what they are");
    let refused = raised("local x = require('ffi')");
    assert_eq!(refused, "[string \"local x = require('ffi')\"]:1: require 'ffi' not allowed within sandbox");
    assert!(raised("return require('cjson.safe')").contains("not allowed"));
}

#[test]
fn nothing_stays_from_one_call_to_the_next() {
    let text = "string.find, kong.request, ngx.null, x, math.pi = 1, 1, 1, 1, 1 _G.y = 1 return 1";
    assert_eq!(lua(text), Ok(json!(1)));
    let text =
        "return x == nil and y == nil and kong.request ~= 1 and math.pi > 3 and (string.find('a', 'a'))";
    assert_eq!(lua(text), Ok(json!(1)));
    let counting = Arc::new(Source { id: u64::MAX, text: "n = (n or 0) + 1 return n".into() });
    for _ in 0..2 {
        assert_eq!(run(&counting, &pdk::names(), &named), Ok(json!(1)));
    }
}

#[test]
fn a_call_ends() {
    for text in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "local function f() return f() end return f()",
        "local s = ('x'):upper() for i = 1, 12 do s = s .. s end for i = 1, 1e9 do s:find('.-.-.-.-.-y') end",
        "local s = ('a'):upper() for i = 1, 14 do s = s .. s end return s:find('.-.-.-.-b')",
        "local s = ('('):upper() for i = 1, 20 do s = s .. s end return s:gsub('%b()', '')",
        "local t = {} for i = 1, 5e5 do t[i] = i % 7 end table.sort(t, function() return true end) while true do end",
        "for i = 1, math.huge do kong.request.get_method() end",
        "local t = {} for i = 1, 1e9 do table.insert(t, 1, i) t[#t] = nil end",
    ] {
        let result = lua(text);
        assert!(matches!(result, Err(LuaError::TooLong(_) | LuaError::Raised(_))), "{text}: {result:?}");
    }
    assert!(matches!(lua("while true do end"), Err(LuaError::TooLong(_))));
    assert_eq!(lua("return 1"), Ok(json!(1)), "the next call has time of its own");
}

#[test]
fn a_call_has_little_memory() {
    for text in [
        "local s = ('x'):upper() while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "local s = ('x'):upper() for i = 1, 20 do s = s .. s end return s:gsub('', s)",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
    ] {
        let result = lua(text);
        assert!(matches!(result, Err(LuaError::TooLarge | LuaError::TooLong(_))), "{text}: {result:?}");
        assert_eq!(lua("return 1"), Ok(json!(1)), "the next call has memory again");
    }
    assert_eq!(lua("local s = ('x'):upper() while true do s = s .. s end"), Err(LuaError::TooLarge));
    let deep = "local function f() return (pcall(f)) end return f()";
    assert!(lua(deep).is_ok() || matches!(lua(deep), Err(LuaError::Raised(_))));
    assert!(raised("local function f() return 1 + f() end return f()").contains("stack overflow"));
}

#[test]
fn errors_say_where() {
    assert_eq!(
        raised("local x\nreturn x.y"),
        "[string \"local x...\"]:2: attempt to index local 'x' (a nil value)"
    );
    assert_eq!(raised("error('mine')"), "[string \"error('mine')\"]:1: mine");
    assert_eq!(raised("error('mine', 0)"), "mine");
    let told = raised("local x = kong.request.get_header()");
    assert_eq!(told, "[string \"local x = kong.request.get_header()\"]:1: header name must be a string");
    assert!(raised("error({})").contains("table"));
    assert!(matches!(lua("return function() end"), Err(LuaError::Returned(_))));
    assert!(matches!(lua("return 0/0"), Err(LuaError::Returned(_))));
    assert!(matches!(lua("local t = {} t.t = t return t"), Err(LuaError::Returned(_))));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    /// Any text is compiled or refused, and what is compiled ends.
    #[test]
    fn any_text_ends(text in "\\PC{0,40}", words in proptest::collection::vec(0..WORDS.len(), 0..14)) {
        let _ = lua(&text);
        let words: Vec<&str> = words.into_iter().map(|word| WORDS[word]).collect();
        let _ = lua(&words.join(" "));
    }

    /// Any pattern is matched or refused, in bounded time, as is any replacement.
    #[test]
    fn any_pattern_ends(text in "[ab()%.]{0,30}", pattern in "[ab.()%\\[\\]^$*+?1-9f-]{0,12}", with in "[a%0-2]{0,4}") {
        let _ = lua(&format!("return ([==[{text}]==]):gsub([==[{pattern}]==], [==[{with}]==])"));
        let _ = lua(&format!("return ([==[{text}]==]):find([==[{pattern}]==], -3)"));
    }
}

/// Of which programs are made that are likelier to be some.
const WORDS: &[&str] = &[
    "return",
    "while true do",
    "end",
    "x",
    "=",
    "1",
    "'a'",
    "..",
    "{",
    "}",
    "function()",
    "for i = 1, 1e12 do",
    "(",
    ")",
    "pcall",
    "if x then",
    "repeat",
    "until x",
    "kong.log",
    "string",
    "table.concat",
    "local",
    "not",
    "nil",
    ",",
];
