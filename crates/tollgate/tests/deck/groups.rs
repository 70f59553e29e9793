//! Consumer groups: their members and plugins, in files and in the calls a Kong gets.

use super::*;

/// Groups and their members: decK's order, names and calls.
#[test]
fn consumer_groups() {
    let tollgate = Tollgate::with_store(&[]);
    let file = include_str!("groups.yaml");
    let lines = "creating consumer ann\ncreating consumer bob\ncreating consumer-group gold\n\
                 creating consumer-group silver\ncreating consumer-group-consumer ann\n\
                 creating consumer-group-consumer ann\ncreating consumer-group-consumer bob\n\
                 creating plugin rate-limiting for consumer-group silver\n\
                 creating plugin rate-limiting for consumer-group gold\n";
    for mode in [KONG, KONNECT] {
        let deck = Deck::new(&tollgate, mode);
        deck.write("groups.yaml", file);
        assert_eq!(deck.ok(&["sync", "groups.yaml"]), format!("{lines}{}", summary(9, 0, 0)));
        let dump = deck.ok(&["dump"]);
        assert!(
            dump.contains("- groups:\n  - name: gold\n    tags:\n    - paid\n  - name: silver\n"),
            "{dump}"
        );
        // A member leaves, another changes, a group gets another tag.
        let changed = file.replace("  - username: bob\n", "").replace("[paid]", "[paid, more]");
        deck.write("changed.yaml", &changed);
        let out = deck.ok(&["sync", "changed.yaml"]);
        assert!(out.contains("updating consumer-group gold  {\n"), "{out}");
        assert!(out.contains("deleting consumer-group-consumer bob\n"), "{out}");
        assert!(out.ends_with(&summary(0, 1, 1)), "{out}");
        assert_eq!(deck.ok(&["sync", "changed.yaml"]), summary(0, 0, 0));
        // What is said again may be.
        deck.write("more.yaml", "_format_version: \"3.0\"\nconsumer_groups:\n- name: gold\n  consumers:\n  - username: ann\n  - username: bob\n");
        let out = deck.ok(&["apply", "more.yaml"]);
        assert!(
            out.contains("creating consumer-group-consumer bob\n")
                && !out.contains("consumer-group-consumer ann"),
            "{out}"
        );
        let (code, _, err) =
            deck.run(&["sync", "groups.yaml", "--skip-consumers-with-consumer-groups", "--yes"]);
        assert!(
            code == 1 && err.contains("groups.yaml:5: consumers[1].groups[1]: members of consumer groups"),
            "{err}"
        );
        assert!(!deck.ok(&["dump", "--skip-consumers"]).contains("gold"));
        assert!(!deck.ok(&["dump", "--skip-consumers-with-consumer-groups"]).contains("groups:\n  -"));
        let out = deck.ok(&["reset", "-f"]);
        assert!(out.ends_with(&summary(0, 0, 9)), "{out}");
    }
}

/// With tags only who has them is looked at; others may be looked up.
#[test]
fn members_of_groups_by_tags() {
    let tollgate = Tollgate::with_store(&[]);
    let deck = Deck::new(&tollgate, KONG);
    deck.write("groups.yaml", include_str!("groups.yaml"));
    deck.ok(&["sync", "groups.yaml"]);
    deck.write(
        "tagged.yaml",
        "_format_version: \"3.0\"\n_info:\n  select_tags: [mine]\n  default_lookup_tags: {consumer_groups: [paid]}\n\
         consumers:\n- username: zoe\n  groups:\n  - name: gold\n",
    );
    let created = "creating consumer zoe\ncreating consumer-group-consumer zoe\n";
    assert_eq!(deck.ok(&["sync", "tagged.yaml"]), format!("{created}{}", summary(2, 0, 0)));
    assert_eq!(deck.ok(&["sync", "tagged.yaml"]), summary(0, 0, 0));
    deck.write("left.yaml", &deck.read("tagged.yaml").replace("  groups:\n  - name: gold\n", ""));
    let deleted = "deleting consumer-group-consumer zoe\n";
    assert_eq!(deck.ok(&["sync", "left.yaml"]), format!("{deleted}{}", summary(0, 0, 1)));
    let dump = deck.ok(&["dump"]);
    assert!(dump.contains("username: ann") && dump.contains("- name: silver"), "{dump}");
}

#[test]
fn a_kong_gets_decks_calls_for_groups() {
    let tollgate = Tollgate::with_store(&[]);
    let relay = Relay::start(tollgate.admin(), None);
    let deck = Deck { tollgate: &tollgate, port: relay.port, mode: KONG };
    deck.write("groups.yaml", include_str!("groups.yaml"));
    deck.ok(&["sync", "groups.yaml"]);
    let writes = relay.writes();
    let of = |start: &str, end: &str| -> Vec<&common::relay::Call> {
        writes.iter().filter(|(_, path, _)| path.starts_with(start) && path.ends_with(end)).collect()
    };
    let (ann, gold) = ("00000000-0000-4000-8000-0000000000b1", "00000000-0000-4000-8000-0000000000a1");
    let group = of("/consumer_groups/", gold);
    assert_eq!(
        group,
        [&(
            "PUT".into(),
            format!("/consumer_groups/{gold}"),
            json!({"id": gold, "name": "gold", "tags": ["paid"]})
        )]
    );
    let members = of(&format!("/consumer_groups/{gold}/"), "/consumers");
    assert_eq!(
        members,
        [&("POST".into(), format!("/consumer_groups/{gold}/consumers"), json!({"consumer": ann}))]
    );
    let limit = writes
        .iter()
        .find(|(_, path, body)| path.starts_with("/plugins/") && body["consumer_group"]["id"] == gold);
    assert_eq!(limit.unwrap().2["config"], json!({"minute": 100, "policy": "local"}));
    relay.calls.lock().unwrap().clear();
    deck.write(
        "changed.yaml",
        &include_str!("groups.yaml").replace("[paid]", "[more]").replace("  - username: bob\n", ""),
    );
    deck.ok(&["sync", "changed.yaml"]);
    let shown: Vec<String> =
        relay.calls.lock().unwrap().iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    assert!(shown.contains(&"GET /consumer_groups/gold".to_owned()), "{shown:?}");
    let changes: Vec<&String> = shown.iter().filter(|call| !call.starts_with("GET")).collect();
    let [patch, delete] = changes[..] else { panic!("{changes:?}") };
    assert_eq!(*patch, format!("PATCH /consumer_groups/{gold}"));
    assert!(delete.starts_with("DELETE /consumer_groups/") && delete.contains("/consumers/"), "{delete}");
}
