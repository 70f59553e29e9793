use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn rule(route: usize, paths: &[&str], hosts: &[&str]) -> RouteRule {
    let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
    RouteRule { route, paths: list(paths), hosts: list(hosts), ..RouteRule::default() }
}

fn headers(fields: &[(&str, &str)]) -> Headers {
    let mut headers = Headers::new();
    fields.iter().for_each(|(name, value)| headers.append(name, value));
    headers
}

/// A request to `http://host/path`, by default with GET.
#[derive(Debug, Clone)]
struct Ask {
    method: &'static str,
    host: String,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    server_name: Option<&'static str>,
    tls: bool,
}

impl Ask {
    fn new(host: &str, path: &str) -> Self {
        Self {
            method: "GET",
            host: host.into(),
            path: path.into(),
            headers: Vec::new(),
            server_name: None,
            tls: false,
        }
    }

    fn run<T>(&self, run: impl FnOnce(&MatchInput<'_>) -> T) -> T {
        run(&MatchInput {
            method: self.method,
            host: &self.host,
            path: self.path.as_bytes(),
            headers: &headers(&self.headers),
            server_name: self.server_name,
            port: 8000,
            tls: self.tls,
        })
    }

    fn find(&self, router: &Router) -> Option<(usize, usize)> {
        self.run(|input| router.find(input)).map(|found| (found.route, found.matched_length))
    }
}

#[test]
fn the_longest_prefix_wins_and_regexes_go_first() {
    let router = Router::new(&[
        rule(0, &["/"], &[]),
        rule(1, &["/a", "/long/path"], &[]),
        rule(2, &["/long"], &[]),
        rule(3, &["~/lo(?<rest>ng.)x"], &[]),
        rule(4, &["~/alter|/alternative"], &[]),
    ])
    .unwrap();
    for (path, expected) in [
        ("/zzz", (0, 1)),
        ("/ab", (1, 2)),
        ("/long/path/x", (1, 10)),
        ("/long/pa", (2, 5)),
        ("/long/x/more", (3, 7)),
        // The anchor binds the first alternative alone (Kong 3.11).
        ("/z/alternative", (4, 12)),
    ] {
        assert_eq!(Ask::new("h", path).find(&router), Some(expected), "{path}");
    }
}

#[test]
fn more_fields_win_and_plain_hosts_beat_wildcards() {
    let mut with_method = rule(3, &["/"], &["*.example.com"]);
    with_method.methods = vec!["POST".into()];
    let router = Router::new(&[
        rule(0, &[], &["*.example.com"]),
        rule(1, &[], &["api.example.com"]),
        rule(2, &["/x"], &[]),
        with_method,
        rule(4, &[], &["ported.com:9000"]),
        rule(5, &[], &["start.*"]),
        rule(6, &[], &["[::1]:9000", "own.com:8000"]),
    ])
    .unwrap();
    for (method, host, path, expected) in [
        ("GET", "api.example.com:80", "/", Some((1, 0))),
        ("GET", "www.example.com", "/", Some((0, 0))),
        ("GET", "a.b.example.com", "/", Some((0, 0))),
        ("GET", "example.com", "/", None),
        ("POST", "www.example.com", "/", Some((3, 1))),
        ("GET", "other", "/xy", Some((2, 2))),
        ("GET", "ported.com:9000", "/", Some((4, 0))),
        ("GET", "ported.com", "/", None),
        ("GET", "start.org", "/", Some((5, 0))),
        ("GET", "start.co.uk:1", "/", Some((5, 0))),
        ("GET", "[::1]:9000", "/", Some((6, 0))),
        // The port of the listener counts where the host names none.
        ("GET", "own.com", "/", Some((6, 0))),
        ("GET", "own.com:80", "/", None),
        ("GET", "none", "/", None),
        ("GET", "", "/", None),
    ] {
        let ask = Ask { method, ..Ask::new(host, path) };
        assert_eq!(ask.find(&router), expected, "{method} {host}{path}");
    }
}

#[test]
fn headers_ignore_case_and_take_underscores_for_dashes() {
    let with = |route, fields: &[(&str, &[&str])]| RouteRule {
        headers: fields
            .iter()
            .map(|(name, values)| {
                ((*name).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
            })
            .collect(),
        ..rule(route, &["/"], &[])
    };
    let router = Router::new(&[
        with(0, &[("X-Version", &["v1", "V2"])]),
        with(1, &[("x_version", &["~*^V\\d+$"])]),
        with(2, &[("x-version", &["v1"]), ("x-other", &["1"])]),
    ])
    .unwrap();
    for (fields, expected) in [
        (&[("x-version", "V1")][..], Some(0)),
        (&[("X_VERSION", "v2")], Some(0)),
        (&[("X-Version", "v17")], Some(1)),
        (&[("X-Version", "nine"), ("x-version", "v9")], Some(1)),
        (&[("X-Version", "v1"), ("X-Other", "1")], Some(2)),
        (&[("X-Version", "v")], None),
        (&[("X-Versions", "v1")], None),
        (&[], None),
    ] {
        let ask = Ask { headers: fields.to_vec(), ..Ask::new("h", "/") };
        assert_eq!(ask.find(&router).map(|(route, _)| route), expected, "{fields:?}");
    }
}

#[test]
fn server_names_count_over_tls_only() {
    let with = |route, sni: &str| RouteRule { snis: vec![sni.into()], ..rule(route, &["/"], &[]) };
    let router = Router::new(&[with(0, "exact.org."), with(1, "*.wild.org")]).unwrap();
    for (tls, server_name, expected) in [
        (true, Some("exact.org"), Some(0)),
        (true, Some("exact.org."), Some(0)),
        (true, Some("a.wild.org"), Some(1)),
        (true, Some("other.org"), None),
        (true, None, None),
        (false, None, Some(0)),
    ] {
        let ask = Ask { tls, server_name, ..Ask::new("h", "/") };
        assert_eq!(ask.find(&router).map(|(route, _)| route), expected, "{server_name:?}");
    }
}

#[test]
fn ties_go_to_the_older_route_and_regexes_by_their_priority() {
    let made = |route, created_at, path: &str, regex_priority| RouteRule {
        created_at,
        regex_priority,
        ..rule(route, &[path], &[])
    };
    let router = Router::new(&[
        made(0, 2, "/same", 0),
        made(1, 1, "/same", 0),
        made(2, 1, "/same", 0),
        made(3, 1, "~/re.+", -1),
        made(4, 2, "~/reg.+", 0),
        made(5, 3, "~/regex", 7),
        made(6, 0, "/regexes", 0),
    ])
    .unwrap();
    for (path, expected) in [("/same", 1), ("/regexes", 5), ("/regs", 4), ("/rex", 3)] {
        assert_eq!(Ask::new("h", path).find(&router).map(|(route, _)| route), Some(expected), "{path}");
    }
}

#[test]
fn captures_have_numbers_and_names() {
    let router =
        Router::new(&[rule(0, &["~/(?<kind>[a-z]+)/(\\d+)?x?(?P<end>z)?", "~/never(.)"], &[])]).unwrap();
    let found = Ask::new("h", "/user/42x").run(|input| router.find(input)).unwrap();
    let captures: Vec<(&str, &str)> = found.captures.iter().map(|(name, text)| (&**name, &**text)).collect();
    assert_eq!(captures, [("0", "/user/42x"), ("kind", "user"), ("1", "user"), ("2", "42")]);
    assert_eq!(found.matched_length, 9);
}

#[test]
fn regexes_are_taken_over() {
    let mut headers = rule(1, &["/"], &[]);
    headers.headers.insert("x".into(), vec!["~*^a".into()]);
    for rule in [rule(0, &["~/a+", "/b"], &[]), headers] {
        let first = RouteGroups::new(&rule, None).unwrap();
        let second = RouteGroups::new(&rule, Some(&first)).unwrap();
        let patterns = |groups: &RouteGroups| groups.patterns().map(Arc::as_ptr).collect::<Vec<_>>();
        assert_eq!((patterns(&first).len(), patterns(&first)), (1, patterns(&second)));
    }
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let mut headers = rule(1, &[], &[]);
    headers.headers.insert("x-a".into(), vec!["~*(".into()]);
    for (rules, expected) in [
        (
            rule(7, &["~/a(?=b)"], &[]),
            "paths: '/a(?=b)' is not a regex this router can run: look-around, including look-ahead and look-behind, is not supported (look-around and atomic groups of PCRE cannot be used here)",
        ),
        (
            rule(7, &["~/(a)\\1"], &[]),
            "paths: '/(a)\\1' is not a regex this router can run: backreferences are not supported (back-references of PCRE cannot be used here)",
        ),
        (headers, "headers.x-a: '(' is not a regex this router can run: unclosed group"),
    ] {
        let error = Router::new(std::slice::from_ref(&rules)).err().unwrap();
        assert_eq!((error.route, error.to_string().as_str()), (rules.route, expected));
    }
}

/// What the router is to find, from its description alone: every group of every route in order of Kong's
/// 64-bit priority, and every field compared as it stands.
fn walk(rules: &[RouteRule], input: &MatchInput<'_>) -> Option<(usize, usize)> {
    let mut groups = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        let mut split: BTreeMap<(bool, usize), Vec<&str>> = BTreeMap::new();
        for path in &rule.paths {
            let regex = path.starts_with('~');
            split.entry((regex, if regex { 0 } else { path.len() })).or_default().push(path);
        }
        if split.is_empty() {
            split.insert((false, 0), Vec::new());
        }
        for ((regex, length), paths) in split {
            let fields =
                [rule.methods.len(), rule.hosts.len(), rule.headers.len(), rule.snis.len(), rule.paths.len()];
            let weight = fields.iter().filter(|count| **count > 0).count() as u64;
            let plain = !rule.hosts.is_empty() && rule.hosts.iter().all(|host| !host.contains('*'));
            let bits = weight << 61
                | u64::from(plain) << 60
                | (rule.headers.len() as u64) << 52
                | u64::from(regex) << 51
                | if regex { (rule.regex_priority as u64) << 19 } else { 0 }
                | length as u64;
            groups.push((std::cmp::Reverse(bits), rule.created_at, rule.route, place, paths));
        }
    }
    groups.sort();
    groups.iter().find_map(|(.., place, paths)| {
        matches(&rules[*place], paths, input).map(|length| (rules[*place].route, length))
    })
}

fn matches(rule: &RouteRule, paths: &[&str], input: &MatchInput<'_>) -> Option<usize> {
    let text = std::str::from_utf8(input.path).unwrap();
    let length =
        if paths.is_empty() { Some(0) } else { paths.iter().find_map(|path| path_length(path, text)) }?;
    let (name, port) = match input.host.split_once(':') {
        Some((name, port)) => (name, port.parse().unwrap()),
        None => (input.host, input.port),
    };
    let wild = |pattern: &str, name: &str| match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(start)) => name.starts_with(start),
        _ => pattern == name,
    };
    let host = rule.hosts.is_empty()
        || rule.hosts.iter().any(|host| match host.split_once(':') {
            Some((host, wanted)) => wild(host, name) && wanted.parse() == Ok(port),
            None => wild(host, name),
        });
    let method = rule.methods.is_empty() || rule.methods.iter().any(|method| method == input.method);
    let sni = rule.snis.is_empty()
        || !input.tls
        || input.server_name.is_some_and(|name| rule.snis.iter().any(|sni| wild(sni, name)));
    let header = rule.headers.iter().all(|(name, values)| {
        input.headers.get_all(name).any(|sent| {
            let sent = std::str::from_utf8(sent).unwrap().to_lowercase();
            values.iter().any(|value| match value.strip_prefix("~*") {
                Some(pattern) => regex::Regex::new(pattern).unwrap().is_match(&sent),
                None => value.to_lowercase() == sent,
            })
        })
    });
    (host && method && sni && header).then_some(length)
}

fn path_length(path: &str, text: &str) -> Option<usize> {
    match path.strip_prefix('~') {
        Some(pattern) => {
            regex::Regex::new(&format!("^{pattern}")).unwrap().find(text).map(|found| found.len())
        }
        None => text.starts_with(path).then_some(path.len()),
    }
}

const PATHS: [&str; 18] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "/abc",
    "/b",
    "/b/c/d",
    "/b/c",
    "/é",
    "~/a.*b",
    "~/a/(b|c)",
    "~/b/c?",
    "~/a|/b",
    "~/(?i)AB",
    "~/ab{0,1}c*",
    "~/$",
    "~/\\w+/\\d",
];
const HOSTS: [&str; 10] =
    ["x.com", "*.x.com", "x.*", "*.com", "y.org", "y.org:8000", "*.y.org:80", "a.*", "*x.com", "X.com"];

fn rules() -> impl Strategy<Value = Vec<RouteRule>> {
    let some = |list: &'static [&'static str], most: usize| {
        proptest::sample::subsequence(list, 0..=most).prop_map(owned)
    };
    let header = proptest::sample::subsequence(&["1", "2", "~*^[12]$", "Two"][..], 1..=2).prop_map(owned);
    let header = proptest::collection::btree_map(
        proptest::sample::select(&["x-a", "x-b"][..]).prop_map(String::from),
        header,
        0..=2,
    );
    let rule = (
        some(&PATHS, 3),
        some(&HOSTS, 2),
        some(&["GET", "POST"], 1),
        prop_oneof![3 => Just(BTreeMap::new()), 1 => header],
        prop_oneof![3 => Just(Vec::new()), 1 => some(&["s.org", "*.t.org", "u.*"], 2)],
        (0..3_i64, 0..3_i64),
    );
    proptest::collection::vec(rule, 0..12).prop_map(|rules| {
        let rule =
            |(route, (paths, hosts, methods, headers, snis, (created_at, regex_priority)))| RouteRule {
                route,
                created_at,
                id: Uuid::nil(),
                methods,
                hosts,
                paths,
                headers,
                snis,
                regex_priority,
            };
        rules.into_iter().enumerate().map(rule).collect()
    })
}

fn owned(list: Vec<&str>) -> Vec<String> {
    list.into_iter().map(str::to_owned).collect()
}

fn ask() -> impl Strategy<Value = Ask> {
    let host = proptest::sample::select(
        &[
            "x.com",
            "www.x.com",
            "a.b.x.com",
            "x.org",
            "y.org",
            "y.org:80",
            "a.y.org:80",
            "a.y.org",
            "a.com",
            "ax.com",
            "other",
        ][..],
    );
    let path = prop_oneof![
        proptest::sample::select(
            &["/", "/a", "/a/b/c", "/abc", "/axxb", "/b/c/d", "/zz", "/é/", "/ABc", "/x/1", "/x/b"][..]
        )
        .prop_map(String::from),
        "/[abc/1é]{0,6}",
    ];
    let header = (
        proptest::sample::select(&["X-A", "x-b"][..]),
        proptest::sample::select(&["1", "2", "TWO", "12"][..]),
    );
    let tls = proptest::option::of(proptest::sample::select(&["s.org", "a.t.org", "u.x", "none"][..]));
    let method = proptest::sample::select(&["GET", "POST", "PUT"][..]);
    (method, host, path, proptest::collection::vec(header, 0..3), tls, any::<bool>()).prop_map(
        |(method, host, path, headers, server_name, tls)| Ask {
            method,
            host: host.into(),
            path,
            headers,
            server_name,
            tls,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_index_finds_what_walking_all_routes_finds(
        rules in rules(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>()), 8),
        asks in proptest::collection::vec(ask(), 20),
    ) {
        let mut router = Router::new(&rules).unwrap();
        let before = router.clone();
        // Routes come and go; the router before a change stays as it was.
        let mut there: BTreeMap<usize, RouteRule> = rules.iter().cloned().enumerate().collect();
        for (which, stays) in changes.into_iter().filter(|_| !rules.is_empty()) {
            let rule = &rules[which.index(rules.len())];
            let groups = RouteGroups::new(rule, None).unwrap();
            router.remove(&groups);
            there.remove(&rule.route);
            if stays {
                router.add(&groups);
                there.insert(rule.route, rule.clone());
            }
        }
        let there: Vec<RouteRule> = there.into_values().collect();
        for ask in &asks {
            prop_assert_eq!(ask.find(&before), ask.run(|input| walk(&rules, input)), "{:?}", ask);
            prop_assert_eq!(ask.find(&router), ask.run(|input| walk(&there, input)), "{:?}", ask);
        }
    }

    #[test]
    fn plain_prefixes_of_any_kind_are_found(
        paths in proptest::collection::vec("/[ab]{0,8}", 1..60),
        asked in proptest::collection::vec("/[ab]{0,9}", 20),
    ) {
        let rules: Vec<RouteRule> = paths.iter().enumerate().map(|(route, path)| rule(route, &[path], &[])).collect();
        let router = Router::new(&rules).unwrap();
        for path in asked {
            let ask = Ask::new("h", &path);
            prop_assert_eq!(ask.find(&router), ask.run(|input| walk(&rules, input)));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(host in "\\PC*", path: Vec<u8>, name in "\\PC*", value: Vec<u8>) {
        let mut demanding = rule(0, &["~/(.)\\w*", "/a"], &["*.x", "x.*", "h:80"]);
        demanding.headers.insert("a".into(), vec!["~*\\w".into(), "b".into()]);
        let router = Router::new(&[demanding, rule(1, &["~.*"], &[])]).unwrap();
        let received = Bytes::from([b"a", &value[..]].concat());
        let headers = Headers::from_received(received.clone(), std::iter::once((0..1, 1..received.len())));
        let input = MatchInput { method: "GET", host: &host, path: &path, headers: &headers, server_name: Some(&name), port: 1, tls: true };
        router.find(&input);
    }
}
