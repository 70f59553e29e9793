//! decK's commands of the real binary: against this server, as Kong and as Konnect, and against a Kong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;
#[path = "deck/dumps.rs"]
mod dumps;
#[path = "deck/groups.rs"]
mod groups;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::relay::Relay;
use common::{Tollgate, run};
use serde_json::{Value, json};

const SEED: &str = include_str!("seed/ai-key-auth.yaml");

/// `deck` in the server's folder, speaking to a port.
struct Deck<'a> {
    tollgate: &'a Tollgate,
    port: u16,
    mode: &'a [&'a str],
}

const KONG: &[&str] = &[];
const KONNECT: &[&str] = &["--konnect-token", "pat", "--konnect-control-plane-name", "serverless-default"];

impl<'a> Deck<'a> {
    fn new(tollgate: &'a Tollgate, mode: &'a [&'a str]) -> Self {
        Self { tollgate, port: tollgate.admin(), mode }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Tollgate::command(self.tollgate.folder.path(), &[]);
        let address = format!("http://127.0.0.1:{}", self.port);
        command
            .current_dir(self.tollgate.folder.path())
            .env("DECK_KONG_ADDR", &address)
            .env("DECK_KONNECT_ADDR", &address)
            .env("DECK_OPENAI_API_KEY", "sk-test")
            .env("DECK_LLM_KEY", "sk-canary")
            .arg("gateway")
            .args(words)
            .args(self.mode);
        command
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        run(&mut self.command(words))
    }

    /// Runs what must work; its output.
    fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!(code, 0, "{words:?}\n{out}{err}");
        out
    }

    fn with_input(&self, words: &[&str], input: &str) -> (i32, String, String) {
        let mut command = self.command(words);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.tollgate.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.tollgate.folder.path().join(name)).unwrap()
    }
}

/// Makes a certificate that signs itself, `cert.pem`, and its key, `key.pem`, in a folder.
fn self_signed(folder: &Path, subject: &str, extensions: &[&str]) {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["req", "-x509", "-nodes", "-days", "30"]).args(curve);
    command.args(["-keyout", "key.pem", "-out", "cert.pem", "-subj", subject]);
    extensions.iter().for_each(|extension| {
        command.args(["-addext", extension]);
    });
    let (code, _, err) = run(&mut command);
    assert_eq!(code, 0, "{err}");
}

fn summary(created: usize, updated: usize, deleted: usize) -> String {
    format!("Summary:\n  Created: {created}\n  Updated: {updated}\n  Deleted: {deleted}\n")
}

fn seed_for_kong() -> String {
    SEED.replace("_konnect:\n  control_plane_name: serverless-default\n", "")
}

#[test]
fn ping() {
    let tollgate = Tollgate::with_store(&[]);
    let out = Deck::new(&tollgate, KONG).ok(&["ping"]);
    assert_eq!(out, "Successfully connected to Kong!\nKong version:  3.11.0\n");
    let out = Deck::new(&tollgate, KONNECT).ok(&["ping"]);
    assert_eq!(out, "Successfully Konnected to the Tollgate organization!\n");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let deck = Deck { tollgate: &tollgate, port: nobody, mode: KONG };
    let (code, out, err) = deck.run(&["ping"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("Error: reading Kong version: GET http://127.0.0.1:"), "{err}");
    assert!(err.contains("--kong-addr"), "{err}");
    let missing = ["--konnect-token", "pat", "--konnect-control-plane-name", "none"];
    let (code, _, err) = Deck::new(&tollgate, &missing).run(&["dump"]);
    assert_eq!((code, err.as_str()), (1, "Error: control plane not found: none\n"));
}

#[test]
fn an_address_or_token_that_is_wrong_is_told_with_the_mend() {
    let tollgate = Tollgate::with_store(&[("KONG_ADMIN_TOKEN", "right")]);
    let tls = tollgate.port("proxy_tls");
    for (address, words, expected) in [
        (format!("http://127.0.0.1:{}", tollgate.proxy()), &[][..], "is http://127.0.0.1:"),
        (format!("https://127.0.0.1:{}", tollgate.admin()), &[], "is http:// meant (--kong-addr)?"),
        (
            format!("https://127.0.0.1:{tls}"),
            &[],
            "trust it with --ca-cert-file, or do without with --tls-skip-verify",
        ),
        (
            format!("https://127.0.0.1:{tls}"),
            &["--tls-skip-verify"],
            "the address of an Admin API (--kong-addr)?",
        ),
        (format!("http://127.0.0.1:{}", tollgate.admin()), &[], "is the token right (--kong-admin-token)?"),
        (
            format!("http://127.0.0.1:{}", tollgate.admin()),
            &["--kong-admin-token", "wrong"],
            "is the token right (--kong-admin-token)?",
        ),
    ] {
        let mut command = Tollgate::command(tollgate.folder.path(), &[]);
        command.args(["gateway", "ping", "--kong-addr", &address]).args(words);
        let (code, out, err) = common::run(&mut command);
        assert_eq!((code, out.as_str()), (1, ""), "{address}");
        assert!(
            err.starts_with("Error: reading Kong version: ") && err.contains(expected),
            "{address}: {err}"
        );
    }
}

#[test]
fn what_is_printed() {
    let tollgate = Tollgate::with_store(&[]);
    for mode in [KONG, KONNECT] {
        let deck = Deck::new(&tollgate, mode);
        deck.write("seed.yaml", &if mode.is_empty() { seed_for_kong() } else { SEED.to_owned() });
        let lines = "creating consumer user1\ncreating service service1\ncreating key-auth 23456 for consumer user1\n\
                     creating route openai-route\ncreating plugin ai-proxy for route openai-route\n\
                     creating plugin key-auth for route openai-route\n";
        assert_eq!(deck.ok(&["diff", "seed.yaml"]), format!("{lines}{}", summary(6, 0, 0)));
        assert_eq!(deck.run(&["diff", "seed.yaml", "--non-zero-exit-code"]).0, 2);
        assert_eq!(deck.ok(&["sync", "seed.yaml"]), format!("{lines}{}", summary(6, 0, 0)));
        assert_eq!(deck.ok(&["sync", "seed.yaml"]), summary(0, 0, 0));
        assert_eq!(deck.run(&["diff", "seed.yaml", "--non-zero-exit-code"]).0, 0);

        let changed =
            deck.read("seed.yaml").replace("port: 32000", "port: 32001").replace("gpt-4.1", "gpt-4o");
        deck.write("changed.yaml", &changed);
        let out = deck.ok(&["diff", "changed.yaml"]);
        assert!(out.starts_with("updating service service1  {\n   \"connect_timeout\": 60000,\n"), "{out}");
        assert!(out.contains("\n-  \"port\": 32000,\n+  \"port\": 32001,\n"), "{out}");
        assert!(out.contains("\n-      \"name\": \"gpt-4.1\",\n+      \"name\": \"gpt-4o\",\n"), "{out}");
        assert!(out.contains("\"header_value\": \"Bearer [masked]\""), "{out}");
        assert!(out.ends_with(&format!(" }}\n\n{}", summary(0, 2, 0))), "{out}");
        let shown = deck.ok(&["diff", "changed.yaml", "--no-mask-deck-env-vars-value"]);
        assert!(shown.contains("Bearer sk-test"), "{shown}");
        assert_eq!(deck.ok(&["sync", "changed.yaml", "--silence-events"]), summary(0, 2, 0));

        let (code, out, _) = deck.with_input(&["reset"], "no\n");
        assert_eq!(
            (code, out.as_str()),
            (0, "This will delete all configuration from Kong's database.\n> Are you sure? ")
        );
        let (code, out, _) = deck.with_input(&["reset"], "y\n");
        let start =
            "This will delete all configuration from Kong's database.\n> Are you sure? deleting plugin ";
        assert!(code == 0 && out.starts_with(start), "{out}");
        let order: Vec<&str> =
            out.lines().filter_map(|line| line.split("deleting ").nth(1)?.split(' ').next()).collect();
        assert_eq!(order, ["plugin", "plugin", "route", "service", "key-auth", "consumer"]);
        assert!(out.ends_with(&summary(0, 0, 6)), "{out}");
        assert_eq!(deck.ok(&["reset", "--force"]), summary(0, 0, 0));
    }
}

#[test]
fn json_output() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("seed.yaml", &seed_for_kong());
    let out = deck.ok(&["sync", "seed.yaml", "--json-output"]);
    assert!(out.starts_with("{\n\t\"changes\": {\n") && out.ends_with("}\n\n"), "{out}");
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["summary"], json!({"creating": 6, "updating": 0, "deleting": 0, "total": 6}));
    assert_eq!((&document["errors"], &document["warnings"]), (&json!([]), &json!([])));
    let first = &document["changes"]["creating"][0];
    assert_eq!((&first["name"], &first["kind"]), (&json!("user1"), &json!("consumer")));
    assert_eq!((&first["body"]["new"]["username"], &first["body"]["old"]), (&json!("user1"), &Value::Null));
    assert!(!out.contains("sk-test") && out.contains("Bearer [masked]"), "{out}");

    deck.write("less.yaml", "_format_version: \"3.0\"\nconsumers:\n- username: user1\n  custom_id: x\n");
    let out = deck.ok(&["diff", "less.yaml", "--json-output", "--select-tag", "llm"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["summary"], json!({"creating": 0, "updating": 1, "deleting": 5, "total": 6}));
    let update = &document["changes"]["updating"][0]["body"];
    assert_eq!((&update["new"]["custom_id"], &update["old"]["custom_id"]), (&json!("x"), &Value::Null));

    // An error while writing is reported in the document.
    deck.write(
        "clash.yaml",
        "_format_version: \"3.0\"\n_info: {select_tags: [other]}\nconsumers:\n- username: user1\n",
    );
    let (code, out, _) = deck.run(&["sync", "clash.yaml", "--json-output"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0, "{out}");
    assert!(document["errors"][0].as_str().unwrap().contains("UNIQUE violation"), "{out}");
    assert_eq!(document["changes"]["dropped_creations"][0]["name"], "user1");
    assert_eq!(deck.ok(&["reset", "-f", "--json-output"]), "");
}

#[test]
fn select_tags() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    let file = |tag: &str, name: &str| {
        format!(
            "_format_version: \"3.0\"\n_info:\n  select_tags: [{tag}]\nservices:\n- name: {name}\n  host: h\n"
        )
    };
    deck.write("a.yaml", &file("a", "one"));
    deck.write("b.yaml", &file("b", "two"));
    assert!(deck.ok(&["sync", "a.yaml"]).contains("creating service one"));
    assert!(deck.ok(&["sync", "b.yaml"]).ends_with(&summary(1, 0, 0)));
    let (code, _, err) = deck.run(&["sync", "a.yaml", "--select-tag", "other"]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("Error: tags specified in the state file ([a]) and via --select-tags flag ([other]) are different."),
        "{err}"
    );
    // A name that somebody else has cannot be taken; nothing else of the file is done either.
    let clash = format!("{}- name: three\n  host: h\n", file("c", "one"));
    deck.write("clash.yaml", &clash);
    let (code, out, err) = deck.run(&["sync", "clash.yaml"]);
    assert_eq!((code, out.as_str()), (1, summary(0, 0, 0).as_str()));
    assert!(err.contains("clash.yaml:5: services[1].name: HTTP status 409 (message: \"UNIQUE violation detected on '{name=\"one\"}'\")"), "{err}");
    assert!(!deck.ok(&["dump"]).contains("three"));
    // References to entities that are looked up.
    deck.write("lookup.yaml", "_format_version: \"3.0\"\n_info:\n  select_tags: [routes]\n  default_lookup_tags: {services: [a]}\nroutes:\n- name: r\n  paths: [/r]\n  service: {name: one}\n");
    assert!(deck.ok(&["sync", "lookup.yaml"]).ends_with(&summary(1, 0, 0)));
    assert_eq!(deck.ok(&["sync", "lookup.yaml"]), summary(0, 0, 0));
    // Several files are one, and their tags add up.
    let (code, _, err) = deck.run(&["sync", "a.yaml", "b.yaml"]);
    assert_eq!(code, 1, "{err}");
    let out = deck.ok(&["dump", "--select-tag", "a,b"]);
    assert_eq!(out, "_format_version: \"3.0\"\n_info:\n  defaults: {}\n  select_tags:\n  - a\n  - b\n");
    assert!(deck.ok(&["reset", "-f", "--select-tag", "b"]).ends_with(&summary(0, 0, 1)));
}

#[test]
fn several_files_folders_and_standard_input() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("all/one.yaml", "_format_version: \"3.0\"\nservices:\n- name: one\n  host: h\n");
    deck.write(
        "all/deeper/two.yml",
        "_format_version: \"3.0\"\nroutes:\n- name: two\n  paths: [/two]\n  service: {name: one}\n",
    );
    deck.write("all/deeper/note.txt", "not a declaration");
    assert!(deck.ok(&["sync", "all"]).ends_with(&summary(2, 0, 0)));
    assert_eq!(deck.ok(&["sync", "all/one.yaml", "all/deeper/two.yml"]), summary(0, 0, 0));
    let text = deck.read("all/one.yaml");
    for words in [&["sync", "-"][..], &["sync"]] {
        let (code, out, err) = deck.with_input(words, &text);
        assert_eq!(code, 0, "{out}{err}");
    }
    assert_eq!(deck.ok(&["sync", "all/one.yaml"]), summary(0, 0, 0));
    deck.write("x.yaml", "_format_version: \"3.0\"\n_workspace: one\n");
    deck.write("y.yaml", "_format_version: \"3.0\"\n_workspace: two\n");
    let (code, _, err) = deck.run(&["diff", "x.yaml", "y.yaml"]);
    assert!(
        code == 1 && err.contains("y.yaml:2: _workspace: the files name two workspaces, 'one' and 'two'"),
        "{err}"
    );
    let (code, _, err) = deck.run(&["sync", "not-there.yaml"]);
    assert!(code == 1 && err.starts_with("Error: reading file not-there.yaml: "), "{err}");
}

#[test]
fn bad_files_are_refused_by_file_line_and_field() {
    let tollgate = Tollgate::with_store(&[]);
    let cases: Vec<Value> = serde_json::from_str(include_str!("deck/bad.json")).unwrap();
    for mode in [KONG, KONNECT] {
        let deck = Deck::new(&tollgate, mode);
        for case in &cases {
            deck.write("bad.yaml", case["file"].as_str().unwrap());
            // What only the server knows, a diff does not find.
            let commands: &[&str] = if case["online"] == true {
                &["sync", "validate"]
            } else {
                &["sync", "validate", "diff", "apply"]
            };
            for command in commands {
                let (code, _, err) = deck.run(&[command, "bad.yaml"]);
                assert_eq!(code, 1, "{command}: {case}\n{err}");
                assert!(err.starts_with("Error: "), "{err}");
                for line in case["says"].as_array().unwrap() {
                    assert!(err.contains(line.as_str().unwrap()), "{command}: {line} is not in\n{err}");
                }
            }
        }
        assert_eq!(deck.ok(&["reset", "-f"]), summary(0, 0, 0), "nothing was written");
    }
}

#[test]
fn apply_deletes_nothing_and_refers_to_what_is_there() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write(
        "one.yaml",
        "_format_version: \"3.0\"\nservices:\n- name: one\n  host: h\n- name: two\n  host: h\n",
    );
    deck.ok(&["apply", "one.yaml"]);
    deck.write("more.yaml", "_format_version: \"3.0\"\nservices:\n- name: one\n  host: other\nplugins:\n- name: rate-limiting\n  service: two\n  config: {minute: 1}\n");
    let out = deck.ok(&["apply", "more.yaml"]);
    assert!(out.contains("creating plugin rate-limiting for service two\n"), "{out}");
    assert!(out.ends_with(&summary(1, 1, 0)), "{out}");
    assert_eq!(deck.ok(&["apply", "more.yaml"]), summary(0, 0, 0));
    assert!(deck.ok(&["dump"]).contains("name: two"));
}

#[test]
fn parts_can_be_left_alone() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("all.yaml", include_str!("deck/flat.json"));
    deck.ok(&["sync", "all.yaml"]);
    assert!(!deck.ok(&["dump", "--skip-consumers"]).contains("bob"));
    deck.write("none.yaml", "_format_version: \"3.0\"\n");
    let out = deck.ok(&["sync", "none.yaml", "--skip-consumers"]);
    assert!(!out.contains("bob") && out.contains("deleting service flat"), "{out}");
    assert!(deck.ok(&["dump"]).contains("username: bob"));
    let (code, _, err) = deck.run(&["dump", "--rbac-resources-only"]);
    assert!(code == 1 && err.contains("--rbac-resources-only"), "{err}");
}

#[test]
fn workspaces() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("ws.yaml", "_format_version: \"3.0\"\n_workspace: team\nservices:\n- name: one\n  host: h\n");
    let out = deck.ok(&["diff", "ws.yaml"]);
    assert_eq!(out, format!("Creating workspace team\ncreating service one\n{}", summary(1, 0, 0)));
    let (code, _, err) = deck.run(&["dump", "-w", "team"]);
    assert_eq!((code, err.as_str()), (1, "Error: workspace 'team' does not exist in Kong\n"));
    assert!(deck.ok(&["sync", "ws.yaml"]).starts_with("Creating workspace team\n"));
    assert_eq!(deck.ok(&["sync", "ws.yaml"]), summary(0, 0, 0));
    assert!(deck.ok(&["dump", "-w", "team"]).contains("_workspace: team"));
    assert!(!deck.ok(&["dump"]).contains("name: one"));
    deck.ok(&["dump", "--all-workspaces", "--yes"]);
    assert!(
        deck.read("team.yaml").contains("name: one")
            && deck.read("default.yaml").contains("_workspace: default")
    );
    let (code, _, err) = deck.run(&["sync", "ws.yaml", "-w", "other"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("Workspace 'other' specified via --workspace flag is different from workspace 'team'"),
        "{err}"
    );
    assert!(deck.ok(&["reset", "-f", "--all-workspaces"]).contains("deleting service one"));
    assert!(!deck.ok(&["dump", "-w", "team"]).contains("name: one"));
}

#[test]
fn a_kong_gets_decks_calls() {
    let tollgate = Tollgate::with_store(&[]);
    let relay = Relay::start(tollgate.admin(), None);
    let deck = Deck { tollgate: &tollgate, port: relay.port, mode: KONG };
    deck.write("seed.yaml", &seed_for_kong());
    assert!(deck.ok(&["sync", "seed.yaml"]).ends_with(&summary(6, 0, 0)));
    let (mut expected, mut ids): (Vec<Value>, Vec<(String, String)>) =
        (serde_json::from_str(include_str!("deck/calls.json")).unwrap(), Vec::new());
    let mut writes = relay.writes();
    // Those of one kind go out at the same time.
    writes.sort_by_key(|(_, path, body)| path.starts_with("/plugins/").then(|| body["name"].to_string()));
    for (call, (method, path, body)) in expected.iter_mut().zip(&writes) {
        let placeholder = call[2]["id"].as_str().unwrap().to_owned();
        ids.push((placeholder, body["id"].as_str().unwrap().to_owned()));
        let mut text = call.to_string();
        for (placeholder, id) in &ids {
            text = text.replace(placeholder, id);
        }
        assert_eq!(json!([method, path, body]), serde_json::from_str::<Value>(&text).unwrap());
    }
    assert_eq!(writes.len(), expected.len());
    relay.calls.lock().unwrap().clear();
    assert_eq!(deck.ok(&["sync", "seed.yaml"]), summary(0, 0, 0));
    assert_eq!(relay.writes(), []);
    let tagged =
        relay.calls.lock().unwrap().iter().any(|(_, path, _)| path == "/services?size=1000&tags=llm");
    assert!(tagged);
    relay.calls.lock().unwrap().clear();
    assert!(deck.ok(&["reset", "-f"]).ends_with(&summary(0, 0, 6)));
    let deleted: Vec<String> = relay
        .writes()
        .iter()
        .map(|(method, path, _)| format!("{method} {}", path.split('/').nth(1).unwrap()))
        .collect();
    assert_eq!(
        deleted,
        [
            "DELETE plugins",
            "DELETE plugins",
            "DELETE routes",
            "DELETE services",
            "DELETE consumers",
            "DELETE consumers"
        ]
    );
}

#[test]
fn a_refusal_of_a_kong_stops_the_run() {
    let tollgate = Tollgate::with_store(&[]);
    let relay = Relay::start(tollgate.admin(), Some(("PUT", "/services/")));
    let deck = Deck { tollgate: &tollgate, port: relay.port, mode: KONG };
    deck.write("seed.yaml", &seed_for_kong());
    let (code, out, err) = deck.run(&["sync", "seed.yaml"]);
    assert_eq!(code, 1);
    assert!(out.contains("Dropped creation route openai-route\n"), "{out}");
    assert!(out.ends_with(&summary(1, 0, 0)), "{out}");
    assert!(
        err.contains("while processing event: Create service service1 failed: HTTP status 409 (message: \"UNIQUE violation"),
        "{err}"
    );
    assert!(err.contains("seed.yaml:6: services[1].name: "), "{err}");
    assert_eq!(relay.writes().len(), 2);
}

#[test]
fn history_and_rollback() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("seed.yaml", &seed_for_kong());
    deck.ok(&["sync", "seed.yaml"]);
    let history = deck.ok(&["history"]);
    assert!(history.lines().nth(1).unwrap().contains("gateway sync"), "{history}");
    let revision = history.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    deck.ok(&["reset", "-f"]);
    assert!(deck.ok(&["rollback", &revision]).contains(&format!("that of revision {revision} again")));
    assert_eq!(deck.ok(&["sync", "seed.yaml"]), summary(0, 0, 0));
}

#[test]
fn usage() {
    let tollgate = Tollgate::with_store(&[]);
    let link = tollgate.folder.path().join("deck");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tollgate"), &link).unwrap();
    let deck = |words: &[&str]| {
        run(Command::new(&link)
            .current_dir(tollgate.folder.path())
            .env("HOME", tollgate.folder.path())
            .args(words))
    };
    let error = |words: &[&str]| {
        let (code, out, err) = deck(words);
        assert_eq!((code, out.as_str()), (1, ""), "{words:?}: {err}");
        err
    };
    assert_eq!(
        error(&["bogus"]),
        "Error: unknown command \"bogus\" for \"deck\"\nRun 'deck --help' for usage.\n"
    );
    assert_eq!(error(&["gateway", "ping", "--bogus"]), "Error: unknown flag: --bogus\n");
    assert_eq!(
        error(&["gateway", "dump", "file.yaml"]),
        "Error: positional arguments are not valid for this command, please use flags instead\n"
    );
    assert!(
        error(&["gateway", "sync", "--parallelism", "0"])
            .contains("--parallelism cannot be less than 1, got 0")
    );
    assert!(error(&["gateway", "ping", "--kong-addr", "nonsense"]).starts_with("Error: invalid URL: "));
    assert!(error(&["gateway", "sync", "-E", "x"]).contains("unknown diagnostic code: x"));
    assert!(deck(&["version"]).1.starts_with("decK v1."));
    assert!(deck(&["completion", "bash"]).1.contains("complete -F"));
    let (code, out, _) = deck(&["--help"]);
    assert!(code == 0 && out.contains("gateway"), "{out}");
    // The older commands, with the older flag for files; switches take values as in Go.
    let address = format!("http://127.0.0.1:{}", tollgate.admin());
    std::fs::write(
        tollgate.folder.path().join("kong.yaml"),
        "_format_version: \"3.0\"\nservices:\n- name: a\n  host: h\n",
    )
    .unwrap();
    let (code, out, err) =
        deck(&["--kong-addr", &address, "sync", "--analytics=false", "--silence-events=false"]);
    assert_eq!(
        (code, out.as_str()),
        (0, format!("creating service a\n{}", summary(1, 0, 0)).as_str()),
        "{err}"
    );
    assert!(err.starts_with("Info: 'deck sync' functionality has moved to 'deck gateway sync'"), "{err}");
    assert_eq!(deck(&["diff", "-s", "kong.yaml", "--kong-addr", &address, "--non-zero-exit-code"]).0, 0);
}

#[test]
fn diagnostics() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("regex.yaml", "_format_version: \"3.0\"\nroutes:\n- name: r\n  paths:\n  - /a(b)\n");
    let (code, _, err) = deck.run(&["validate", "regex.yaml"]);
    assert!(
        code == 0 && err.contains("Warning: (route-regex-path-format) regex.yaml:5: routes[1].paths[1]"),
        "{err}"
    );
    let (code, _, err) = deck.run(&["validate", "regex.yaml", "-E", "route-regex-path-format"]);
    assert!(code == 1 && err.contains("warning (route-regex-path-format)"), "{err}");
    let (code, _, err) = deck.run(&["validate", "regex.yaml", "--konnect-compatibility"]);
    assert!(code == 1 && err.contains("[konnect] section not specified"), "{err}");
}

#[test]
fn tokens_and_tls() {
    let authority = tempfile::tempdir().unwrap();
    let path = |name: &str| authority.path().join(name).display().to_string();
    let extensions = ["subjectAltName=DNS:gateway.test", "basicConstraints=critical,CA:FALSE"];
    self_signed(authority.path(), "/CN=gateway.test", &extensions);
    let tollgate = Tollgate::with_store(&[
        ("KONG_ADMIN_LISTEN", "127.0.0.1:0, 127.0.0.1:0 ssl http2"),
        ("KONG_SSL_CERT", &path("cert.pem")),
        ("KONG_SSL_CERT_KEY", &path("key.pem")),
        ("KONG_ADMIN_TOKEN", "canary-token"),
    ]);
    let deck = Deck::new(&tollgate, KONG);
    let (code, _, err) = deck.run(&["dump"]);
    assert!(code == 1 && err.contains("HTTP status 401 (message: \"Invalid RBAC credentials\")"), "{err}");
    deck.ok(&["dump", "--kong-admin-token", "canary-token"]);
    deck.ok(&["dump", "--headers", "Kong-Admin-Token:canary-token"]);
    let konnect = ["--konnect-control-plane-name", "serverless-default"];
    let deck = Deck::new(&tollgate, &konnect);
    let (code, _, err) = deck.run(&["dump", "--konnect-token", "wrong"]);
    assert!(code == 1 && err.starts_with("Error: fetching control planes: HTTP status 401"), "{err}");
    deck.write("token", "canary-token\n");
    assert!(
        deck.ok(&["dump", "--konnect-token-file", "token"])
            .contains("control_plane_name: serverless-default")
    );

    let address = format!("https://127.0.0.1:{}", tollgate.port("admin_tls"));
    let token = ["--kong-admin-token", "canary-token", "--kong-addr", &address];
    let deck = Deck::new(&tollgate, &token);
    let (code, _, err) = deck.run(&["ping"]);
    assert!(code == 1 && err.to_lowercase().contains("certificate"), "{err}");
    deck.ok(&["ping", "--tls-skip-verify"]);
    deck.ok(&["ping", "--ca-cert-file", &path("cert.pem"), "--tls-server-name", "gateway.test"]);
    let (code, _, err) =
        deck.run(&["ping", "--ca-cert-file", &path("cert.pem"), "--tls-server-name", "other.test"]);
    assert!(code == 1 && !err.contains("canary"), "{err}");
}

#[test]
fn a_node_without_store_cannot_be_synced() {
    let tollgate = Tollgate::with_file("_format_version: \"3.0\"\n", &[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("seed.yaml", &seed_for_kong());
    let (code, _, err) = deck.run(&["sync", "seed.yaml"]);
    assert!(
        code == 1
            && err.contains("HTTP status 405 (message: \"cannot change entities when not using a database"),
        "{err}"
    );
}
