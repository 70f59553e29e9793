//! Dumps: what they hold, and that they can be applied.

use super::*;

#[test]
fn files_sync_twice_and_their_dumps_are_no_ops() {
    let certificate = certificate_file();
    let files = [
        ("nested.yaml", include_str!("nested.yaml").to_owned()),
        ("flat.json", include_str!("flat.json").to_owned()),
        ("certificate.yaml", certificate),
        ("groups.yaml", include_str!("groups.yaml").to_owned()),
    ];
    let tollgate = Tollgate::with_store(&[]);
    for mode in [KONG, KONNECT] {
        let deck = Deck::new(&tollgate, mode);
        for (name, text) in &files {
            deck.write(name, text);
            let out = deck.ok(&["sync", name]);
            assert!(out.contains("Updated: 0\n  Deleted: 0"), "{name}: {out}");
            assert_eq!(deck.ok(&["diff", name]), summary(0, 0, 0), "{name}");
            assert_eq!(deck.ok(&["sync", name]), summary(0, 0, 0), "{name}");
            let tags: &[&str] = if *name == "nested.yaml" { &["--select-tag", "team-a,blue"] } else { &[] };
            for (flags, file) in [
                (&["--format", "yaml"][..], "dump.yaml"),
                (&["--format", "json"], "dump.json"),
                (&["--with-id"], "ids.yaml"),
                (&["--skip-defaults"], "short.yaml"),
            ] {
                deck.ok(&[&["dump", "-o", file, "--yes"], flags, tags].concat());
                assert_eq!(deck.ok(&["sync", file]), summary(0, 0, 0), "{name} {file}\n{}", deck.read(file));
                assert_eq!(deck.run(&["diff", "--non-zero-exit-code", file]).0, 0);
            }
            let lines = |file: &str| deck.read(file).lines().count();
            assert!(*name == "certificate.yaml" || lines("short.yaml") < lines("dump.yaml"));
            deck.ok(&["validate", name]);
            deck.ok(&["reset", "-f"]);
        }
    }
}

#[test]
fn a_sanitized_dump_tells_nothing_of_its_owner_and_can_be_applied() {
    let tollgate = Tollgate::with_store(&[]);
    for mode in [KONG, KONNECT] {
        let deck = Deck::new(&tollgate, mode);
        deck.write("nested.yaml", include_str!("nested.yaml"));
        deck.write("certificate.yaml", &certificate_file());
        deck.ok(&["sync", "nested.yaml"]);
        let dump = |file: &str, more: &[&str]| {
            deck.ok(&[&["dump", "--sanitize", "-o", file, "--yes"], more].concat());
            deck.read(file)
        };
        let tags = ["--select-tag", "team-a,blue"];
        let safe = dump("safe.yaml", &[&tags[..], &["--sanitization-salt", "salt"]].concat());
        assert_eq!(safe, dump("again.yaml", &[&tags[..], &["--sanitization-salt", "salt"]].concat()));
        assert_ne!(safe, dump("other.yaml", &tags), "another salt");
        let own = [
            "shop",
            "alice",
            "internal",
            "sk-canary",
            "x-key",
            "10.0.0.1",
            "gpt-4.1",
            "team-a",
            "x-a:1",
            "only-custom",
        ];
        for text in own {
            assert!(!safe.contains(text), "{text}\n{safe}");
        }
        for text in ["consistent-hashing", "key-auth", "llm/v1/chat", "GET", ":8080", "/redacted/path/"] {
            assert!(safe.contains(text), "{text}\n{safe}");
        }
        deck.ok(&["reset", "-f"]);
        deck.ok(&["sync", "safe.yaml"]);
        assert_eq!(deck.ok(&["sync", "safe.yaml"]), summary(0, 0, 0));
        deck.ok(&["reset", "-f"]);
        deck.ok(&["sync", "certificate.yaml"]);
        let of = |text: &str| -> Vec<String> {
            let lines = text.lines().map(str::trim).filter(|line| line.len() == 64);
            lines.map(str::to_owned).collect()
        };
        let before = of(&deck.ok(&["dump"]));
        let safe = dump("safe.yaml", &[]);
        assert!(!before.is_empty() && before.iter().all(|line| !safe.contains(line)), "{safe}");
        deck.ok(&["reset", "-f"]);
        deck.ok(&["sync", "safe.yaml"]);
        deck.ok(&["reset", "-f"]);
    }
}

#[test]
fn dumps_go_to_files_that_only_the_owner_reads() {
    use std::os::unix::fs::PermissionsExt;
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    assert_eq!(deck.ok(&["dump", "-o", "out"]), "");
    let path = tollgate.folder.path().join("out.yaml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "kept").unwrap();
    let (code, out, _) = deck.with_input(&["dump", "-o", "out"], "n\n");
    assert_eq!((code, out.as_str()), (0, "File 'out.yaml' already exists. Do you want to overwrite it? "));
    assert_eq!(deck.read("out.yaml"), "kept");
    deck.ok(&["dump", "-o", "out.json", "--format", "json"]);
    assert_eq!(deck.read("out.json"), "{\n  \"_format_version\": \"3.0\"\n}");
}

/// A certificate with two names and an authority, made for the test.
fn certificate_file() -> String {
    let folder = tempfile::tempdir().unwrap();
    self_signed(folder.path(), "/CN=a.example.com", &["basicConstraints=critical,CA:TRUE"]);
    let block =
        |file: &str| std::fs::read_to_string(folder.path().join(file)).unwrap().replace('\n', "\n    ");
    let (key, certificate) = (block("key.pem"), block("cert.pem"));
    format!(
        "_format_version: \"3.0\"\ncertificates:\n- id: 7d1a8cc2-5d67-4f0e-9c54-0f6a4f9a1c01\n  cert: |\n    {certificate}\n  \
         key: |\n    {key}\n  snis:\n  - name: a.example.com\n  - name: b.example.com\nca_certificates:\n- cert: |\n    {certificate}\n"
    )
}
