//! Wrong values in the node's configuration (`properties/wrong.txt`): `check` and `start` refuse them with the same
//! words, which name the property, where it was set and what is expected.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Tollgate, run};

/// `lines of the file, separated by ";" => what is said`
const WRONG: &str = include_str!("properties/wrong.txt");

/// What a command says to a configuration, without the name of the folder; and its exit code.
fn said(command: &str, content: &[u8]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.conf");
    std::fs::write(&file, content).unwrap();
    let mut tollgate = Tollgate::command(folder.path(), &[]);
    for (name, _) in Tollgate::command(folder.path(), &[]).get_envs() {
        if name.to_string_lossy().starts_with("KONG_") && name != "KONG_PREFIX" {
            tollgate.env_remove(name);
        }
    }
    tollgate.current_dir(folder.path());
    let (code, _, err) = match command {
        "check" => run(tollgate.args(["check", "kong.conf"])),
        _ => run(tollgate.args([command, "-c", "kong.conf"])),
    };
    (code, err.replace(&format!("{}/", folder.path().display()), ""))
}

#[test]
fn wrong_values_are_refused_with_the_mend() {
    for row in WRONG.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (lines, expected) = row.split_once(" => ").unwrap();
        let content = lines.replace("; ", "\n");
        for command in ["check", "start"] {
            let (code, said) = said(command, content.as_bytes());
            assert_eq!(code, 1, "{command}: {row}: {said}");
            assert!(said.contains(expected), "{command}: {row}\n{said}");
        }
    }
}

#[test]
fn files_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does() {
    assert_eq!(
        said("check", "\u{feff}log_level = debug\r\nheaders = off\r\n".as_bytes()),
        (0, String::new())
    );
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let (code, said) = said("check", b"\xff\xfe\0");
    assert_eq!((code, said.as_str()), (1, "Error: kong.conf: stream did not contain valid UTF-8\n"));
}

/// A key that is given in a form nobody knows must not be shown.
#[test]
fn a_key_that_cannot_be_read_is_not_shown() {
    for (switch, name) in [("off", "ssl_cert"), ("on", "client_ssl_cert")] {
        let content = format!("client_ssl = {switch}\n{name} = c2VjcmV0\n{name}_key = c2VjcmV0\n");
        let (code, said) = said("start", content.as_bytes());
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("Error: {name}: neither PEM nor a file")), "{said}");
        assert!(!said.contains("c2VjcmV0"), "{said}");
    }
}
