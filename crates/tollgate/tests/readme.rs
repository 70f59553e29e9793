//! README.md, word by word: every command in it is run, in its order, and what it shows is compared. `cargo` and
//! `make` are stood in for by this binary and by a look into the Makefile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Tollgate, run};
use regex::Regex;
use tempfile::TempDir;

const README: &str = include_str!("../../../README.md");
const MAKEFILE: &str = include_str!("../../../Makefile");

/// The fenced blocks: what kind, and the text.
fn blocks() -> Vec<(&'static str, String)> {
    let mut parts = README.split("```");
    let mut blocks = Vec::new();
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        let (kind, text) = block.split_once('\n').unwrap();
        blocks.push((kind, text.to_owned()));
    }
    blocks
}

/// A reader's terminal.
struct Terminal {
    folder: TempDir,
    exported: Vec<(String, String)>,
    server: Option<Child>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end_server();
    }
}

impl Terminal {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = folder.path().join("bin").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tollgate"), folder.path().join("bin/tollgate"))
            .unwrap();
        program(
            "cargo",
            "#!/bin/sh\n[ \"$*\" = 'run --release -- quickstart' ] || { echo \"cargo $*\" >&2; exit 9; }\nexec tollgate quickstart --port 0\n",
        );
        program("make", "#!/bin/sh\ngrep -q \"^$1:\" Makefile\n");
        std::fs::write(folder.path().join("Makefile"), MAKEFILE).unwrap();
        Self { folder, exported: Vec::new(), server: None }
    }

    fn command(&self, line: &str) -> Command {
        // The surroundings of every test, for a shell.
        let surroundings = Tollgate::command(self.folder.path(), &[]);
        let mut command = Command::new("bash");
        for (name, value) in surroundings.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let path = format!("{}/bin:{}", self.folder.path().display(), std::env::var("PATH").unwrap());
        command
            .current_dir(self.folder.path())
            .env_remove("OPENAI_API_KEY")
            .env("PATH", path)
            .envs(self.exported.iter().cloned())
            .args(["-euo", "pipefail", "-c", line]);
        command
    }

    fn end_server(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Starts a server and reads what it prints until it serves.
    fn serve(&mut self, line: &str) {
        self.end_server();
        let mut server = self.command(line).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
        self.server = Some(server);
        loop {
            let said = lines.next().unwrap_or_else(|| panic!("{line} ended")).unwrap();
            if let Some(url) = said.strip_prefix("export DATA_PLANE_URL=") {
                self.exported.push(("DATA_PLANE_URL".into(), url.into()));
            }
            if let Some(address) = said.strip_prefix("listening: admin ") {
                self.exported.push(("DECK_KONG_ADDR".into(), format!("http://{address}")));
            }
            if said == "Tollgate started" || said.starts_with("Ctrl-C ends it") {
                std::thread::spawn(move || lines.for_each(drop));
                return;
            }
        }
    }

    fn run(&mut self, line: &str) -> String {
        if let Some((name, value)) = line.strip_prefix("export ").and_then(|rest| rest.split_once('=')) {
            if name == "DATA_PLANE_URL" {
                // Printed with the port it then has.
                assert_eq!(value, "http://127.0.0.1:8000");
                assert!(self.exported.iter().any(|(other, _)| other == name));
            } else {
                self.exported.push((name.into(), value.into()));
            }
            return String::new();
        }
        if line.ends_with(" quickstart") || line.ends_with(" start") {
            self.serve(line);
            return String::new();
        }
        let (code, out, err) = run(&mut self.command(line));
        assert_eq!(code, 0, "{line}: {out}{err}");
        out
    }
}

/// What differs from call to call.
fn settled(answer: &str) -> String {
    let changing = Regex::new(r"[0-9a-f]{32}|Date: .*|Latency: \d+").unwrap();
    changing.replace_all(&answer.replace('\r', ""), "…").trim_end().to_owned()
}

#[test]
fn every_command_works_and_shows_what_is_printed() {
    let mut terminal = Terminal::new();
    let mut said: Vec<(String, String)> = Vec::new();
    for (kind, text) in blocks() {
        match kind {
            "sh" => {
                for line in text.replace("\\\n", " ").lines() {
                    let out = terminal.run(line.trim());
                    said.push((line.to_owned(), out));
                }
            }
            "http" => assert_eq!(settled(&said.last().unwrap().1), settled(&text)),
            "yaml" => {
                let name = text.lines().next().unwrap().strip_prefix("# ").unwrap();
                std::fs::write(terminal.folder.path().join(name), &text).unwrap();
            }
            other => panic!("a block of the kind '{other}': sh, http or yaml is expected"),
        }
    }
    let out = |part: &str| {
        let (_, out) = said.iter().find(|(line, _)| line.contains(part)).unwrap_or_else(|| panic!("{part}"));
        out
    };
    let answered = out("apikey: 123456");
    assert!(answered.starts_with("HTTP/1.1 200 OK\r\n"), "{answered}");
    assert!(answered.contains("This is Tollgate's mock LLM"), "{answered}");
    assert!(out("gateway sync").contains("Created: 6"), "{}", out("gateway sync"));
    assert!(
        out("gateway diff").contains("Created: 0\n  Updated: 0\n  Deleted: 0"),
        "{}",
        out("gateway diff")
    );
    assert!(out("gateway dump").contains("openai-route"), "{}", out("gateway dump"));
}

/// `cargo run` must know which program is meant, however many the workspace has.
#[test]
fn cargo_run_means_this_program() {
    let (code, out, err) = run(Command::new(env!("CARGO")).args([
        "metadata",
        "--no-deps",
        "--offline",
        "--format-version",
        "1",
    ]));
    assert_eq!(code, 0, "{err}");
    let workspace: serde_json::Value = serde_json::from_str(&out).unwrap();
    let members: Vec<&str> = workspace["workspace_default_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap())
        .collect();
    let programs: Vec<&str> = workspace["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| members.contains(&package["id"].as_str().unwrap()))
        .flat_map(|package| package["targets"].as_array().unwrap())
        .filter(|target| target["kind"][0] == "bin")
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    assert_eq!(programs, ["tollgate"]);
}

#[test]
fn every_file_that_the_pages_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named =
        Regex::new(r"\]\(([^)#:]+)\)|`((?:crates|docs|scripts|tests|fuzz)/[A-Za-z0-9_./-]+)`").unwrap();
    for page in ["README.md", "ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        for found in named.captures_iter(&text) {
            let name = found.get(1).or(found.get(2)).unwrap().as_str();
            assert!(root.join(name).exists(), "{page} names {name}");
        }
    }
}
