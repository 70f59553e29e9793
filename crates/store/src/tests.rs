use tollgate_model::json;

use super::*;

const AUTHOR: Author<'static> = Author { name: "test", message: "test" };

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn fields(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn service(number: u128, name: &str) -> Map<String, Value> {
    fields(
        json!({"id": id(number).to_string(), "name": name, "tags": ["a", name], "client_certificate": null}),
    )
}

fn route(number: u128, service: u128) -> Map<String, Value> {
    fields(json!({"id": id(number).to_string(), "name": null, "service": {"id": id(service).to_string()}}))
}

fn stores() -> (tempfile::TempDir, Vec<Store>) {
    let folder = tempfile::tempdir().unwrap();
    let file = Store::open(&folder.path().join("store.db")).unwrap();
    (folder, vec![Store::memory().unwrap(), file])
}

#[test]
fn a_fresh_store_has_two_workspaces() {
    let (_folder, stores) = stores();
    for store in stores {
        let names =
            store.read(|view| Ok(view.list(Kind::Workspace, Uuid::nil(), None, 10, None)?.entities)).unwrap();
        let names: Vec<_> =
            names.iter().map(|entity| entity.fields["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, ["default", "serverless-default"]);
    }
}

#[test]
fn an_error_leaves_nothing_behind() {
    let (_folder, stores) = stores();
    for store in stores {
        let before = store.read(|view| view.revision()).unwrap();
        let failed = store.commit(AUTHOR, |transaction| {
            transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(1, "one"))?;
            transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(2, "one"))
        });
        let Err(error @ StoreError::Unique { .. }) = failed else { panic!("{failed:?}") };
        assert_eq!(error.to_string(), r#"UNIQUE violation detected on '{name="one"}'"#);
        assert_eq!(store.read(|view| view.count(Kind::Service, DEFAULT_WORKSPACE)).unwrap(), 0);
        assert_eq!(store.read(|view| view.revision()).unwrap(), before);
        // The same name is free in another workspace.
        store
            .commit(AUTHOR, |transaction| {
                transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(1, "one"))?;
                transaction.put(Kind::Service, SERVERLESS_WORKSPACE, service(2, "one"))
            })
            .unwrap();
        let found = store.read(|view| view.get_by_name(Kind::Service, SERVERLESS_WORKSPACE, "one")).unwrap();
        assert_eq!(found.unwrap().id, id(2));
    }
}

#[test]
fn references_hold() {
    let (_folder, stores) = stores();
    for store in stores {
        let lost =
            store.commit(AUTHOR, |transaction| transaction.put(Kind::Route, DEFAULT_WORKSPACE, route(2, 1)));
        assert!(matches!(lost, Err(StoreError::Reference { field: "service", .. })), "{lost:?}");
        store
            .commit(AUTHOR, |transaction| {
                transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(1, "one"))?;
                transaction.put(Kind::Route, DEFAULT_WORKSPACE, route(2, 1))?;
                let plugin =
                    json!({"id": id(3).to_string(), "name": "cors", "route": {"id": id(2).to_string()}});
                transaction.put(Kind::Plugin, DEFAULT_WORKSPACE, fields(plugin))
            })
            .unwrap();
        let refused = store.commit(AUTHOR, |transaction| transaction.delete(Kind::Service, id(1)));
        assert!(matches!(refused, Err(StoreError::Referenced { by: Kind::Route, .. })), "{refused:?}");
        let routes =
            store.read(|view| view.list_referring(Kind::Route, "service", id(1), None, 10, None)).unwrap();
        assert_eq!(routes.entities.len(), 1);
        store.commit(AUTHOR, |transaction| transaction.delete(Kind::Route, id(2))).unwrap();
        assert_eq!(store.read(|view| view.count(Kind::Plugin, DEFAULT_WORKSPACE)).unwrap(), 0);
        store.commit(AUTHOR, |transaction| transaction.delete(Kind::Service, id(1))).unwrap();
    }
}

#[test]
fn pages_and_tags() {
    let (_folder, stores) = stores();
    for store in stores {
        store
            .commit(AUTHOR, |transaction| {
                (1..=5).try_for_each(|n| {
                    transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(n, &format!("s{n}")))
                })
            })
            .unwrap();
        let page = |tags: Option<&str>, from| {
            let filter = tags.map(|text| TagFilter::parse(text).unwrap());
            store.read(|view| view.list(Kind::Service, DEFAULT_WORKSPACE, filter.as_ref(), 2, from)).unwrap()
        };
        let first = page(None, None);
        assert_eq!((first.entities.len(), first.next), (2, Some(id(3))));
        let last = page(None, Some(id(5)));
        assert_eq!((last.entities.len(), last.next), (1, None));
        assert_eq!(page(Some("a,s4"), None).entities.len(), 1);
        assert_eq!(page(Some("s1/s4"), None).entities.len(), 2);
        assert_eq!(page(Some("s1/s2/s4"), None).next, Some(id(4)));
        assert_eq!(page(Some("a"), Some(id(4))).entities.len(), 2);
        let tags = |tag, size, from: Option<&Tagged>| {
            store.read(|view| view.tags(DEFAULT_WORKSPACE, tag, size, from)).unwrap()
        };
        assert_eq!(tags(Some("a"), 100, None).len(), 5);
        let all = tags(None, 100, None);
        assert_eq!(all.len(), 10);
        assert_eq!(tags(None, 100, all.get(7)), all[7..]);
        assert_eq!(tags(Some("a"), 2, all.get(3)), all[3..5]);
        assert_eq!(store.read(|view| view.tags(SERVERLESS_WORKSPACE, None, 9, None)).unwrap(), []);
    }
}

/// Plugins became unique by their consumer group too.
#[test]
fn what_was_unique_before_is_so_still() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let plugin = |number: u128| fields(json!({"id": id(number).to_string(), "name": "cors"}));
    let put = |store: &Store, fields| {
        store
            .commit(AUTHOR, |transaction| transaction.put(Kind::Plugin, DEFAULT_WORKSPACE, fields))
            .map(|_| ())
    };
    put(&Store::open(&path).unwrap(), plugin(1)).unwrap();
    // As it was.
    let sql = Connection::open(&path).unwrap();
    let older = "UPDATE uniques SET value = '[null,\"cors\",null,null]' WHERE kind = 'plugins'; PRAGMA user_version = 2;";
    sql.execute_batch(older).unwrap();
    drop(sql);
    let store = Store::open(&path).unwrap();
    assert!(matches!(put(&store, plugin(2)), Err(StoreError::Unique { .. })));
    store.commit(AUTHOR, |transaction| transaction.delete(Kind::Plugin, id(1))).unwrap();
    put(&store, plugin(2)).unwrap();
}

#[test]
fn history_can_be_brought_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = Store::open(&path).unwrap();
    let put = |fields| {
        store
            .commit(AUTHOR, |transaction| transaction.put(Kind::Service, DEFAULT_WORKSPACE, fields))
            .unwrap()
            .1
            .unwrap()
    };
    let first = put(service(1, "one"));
    put(service(1, "renamed"));
    put(service(2, "two"));
    store.rollback(first, AUTHOR).unwrap().unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    let services = store.read(|view| view.list(Kind::Service, DEFAULT_WORKSPACE, None, 10, None)).unwrap();
    assert_eq!(
        services.entities.iter().map(|entity| entity.fields.clone()).collect::<Vec<_>>(),
        [service(1, "one")]
    );
    assert!(matches!(store.rollback(99, AUTHOR), Err(StoreError::NoRevision(99))));
    // Nothing changes, so nothing is recorded.
    let (_, none) = store
        .commit(AUTHOR, |transaction| transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(1, "one")))
        .unwrap();
    assert_eq!(none, None);
}

struct Refusing;

impl Observer for Refusing {
    fn prepare(
        &self,
        _: u64,
        view: &View<'_>,
        changes: &[Change],
    ) -> Result<Box<dyn FnOnce() + Send>, String> {
        assert!(!changes.is_empty());
        match view.count(Kind::Service, DEFAULT_WORKSPACE) {
            Ok(0..=1) => Ok(Box::new(|| {})),
            _ => Err("too many".into()),
        }
    }
}

#[test]
fn an_observer_can_refuse() {
    let store = Store::memory().unwrap();
    store.observe(Arc::new(Refusing));
    let put = |number| {
        store.commit(AUTHOR, |transaction| {
            transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(number, &number.to_string()))
        })
    };
    put(1).unwrap();
    assert!(matches!(put(2), Err(StoreError::Refused(_))));
    assert_eq!(store.read(|view| view.count(Kind::Service, DEFAULT_WORKSPACE)).unwrap(), 1);
}

#[test]
fn two_revisions_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    let mut number = store.read(|view| view.revision()).unwrap();
    let first = number;
    let mut put = |fields| {
        let put =
            |transaction: &mut Transaction<'_>| transaction.put(Kind::Service, DEFAULT_WORKSPACE, fields);
        number = store.commit(AUTHOR, put).unwrap().1.unwrap();
        number
    };
    let one = put(service(1, "one"));
    put(service(2, "two"));
    let renamed = put(service(1, "renamed"));
    let (_, gone) = store.commit(AUTHOR, |transaction| transaction.delete(Kind::Service, id(2))).unwrap();
    let changes = |from, to| {
        let changes = store.read(|view| view.difference(from, to)).unwrap();
        changes.into_iter().map(|change| (change.id, change.before, change.after)).collect::<Vec<_>>()
    };
    assert_eq!(changes(first, gone.unwrap()), [(id(1), None, Some(service(1, "renamed")))]);
    assert_eq!(
        changes(one, renamed),
        [
            (id(2), None, Some(service(2, "two"))),
            (id(1), Some(service(1, "one")), Some(service(1, "renamed")))
        ]
        .into_iter()
        .collect::<Vec<_>>()
    );
    assert_eq!(changes(gone.unwrap(), renamed), [(id(2), None, Some(service(2, "two")))]);
    assert_eq!(changes(one, one), []);
    assert!(matches!(store.read(|view| view.difference(one, 99)), Err(StoreError::NoRevision(99))));
    let newest = store.read(|view| view.history(2, None)).unwrap();
    assert_eq!(newest.iter().map(|revision| revision.number).collect::<Vec<_>>(), [gone.unwrap(), renamed]);
    let from = store.read(|view| view.history(1, Some(one))).unwrap();
    assert_eq!(from.iter().map(|revision| revision.number).collect::<Vec<_>>(), [one]);
}

#[test]
fn server_names_are_unique_across_workspaces() {
    let (_folder, stores) = stores();
    for store in stores {
        let sni = |number: u128, certificate: u128| {
            fields(
                json!({"id": id(number).to_string(), "name": "a.test", "certificate": {"id": id(certificate).to_string()}}),
            )
        };
        let taken = store.commit(AUTHOR, |transaction| {
            for (workspace, number) in [(DEFAULT_WORKSPACE, 1), (SERVERLESS_WORKSPACE, 3)] {
                let certificate = fields(json!({"id": id(number).to_string()}));
                transaction.put(Kind::Certificate, workspace, certificate)?;
                transaction.put(Kind::Sni, workspace, sni(number + 1, number))?;
            }
            Ok(())
        });
        assert!(matches!(taken, Err(StoreError::Unique { kind: Kind::Sni, .. })), "{taken:?}");
    }
}

#[test]
fn a_trusted_authority_stays() {
    let (_folder, stores) = stores();
    for store in stores {
        let mut using = service(1, "one");
        using.insert("ca_certificates".into(), json!([id(9).to_string()]));
        store
            .commit(AUTHOR, |transaction| {
                let authority = fields(json!({"id": id(9).to_string(), "cert_digest": "d"}));
                transaction.put(Kind::CaCertificate, DEFAULT_WORKSPACE, authority)?;
                transaction.put(Kind::Service, DEFAULT_WORKSPACE, using)
            })
            .unwrap();
        let delete = || store.commit(AUTHOR, |transaction| transaction.delete(Kind::CaCertificate, id(9)));
        assert_eq!(
            delete().unwrap_err().to_string(),
            format!("ca certificate {} is still referenced by services (id = {})", id(9), id(1))
        );
        store.commit(AUTHOR, |transaction| transaction.delete(Kind::Service, id(1))).unwrap();
        assert!(delete().unwrap().0);
    }
}

#[test]
fn readers_of_a_file_do_not_wait_for_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    store
        .commit(AUTHOR, |transaction| {
            transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(1, "one"))?;
            // Read from within the write: it would wait for ever for a writer to end.
            let names = std::thread::scope(|scope| {
                let read = || store.read(|view| view.count(Kind::Service, DEFAULT_WORKSPACE));
                scope.spawn(read).join().unwrap()
            })?;
            assert_eq!(names, 0, "nobody sees what is not committed");
            Ok(())
        })
        .unwrap();
    assert_eq!(store.read(|view| view.count(Kind::Service, DEFAULT_WORKSPACE)).unwrap(), 1);
}

#[test]
fn a_read_sees_one_state() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store.db")).unwrap();
    store
        .read(|view| {
            let before = view.revision()?;
            store
                .commit(AUTHOR, |transaction| {
                    transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(1, "one"))
                })
                .unwrap();
            assert_eq!((view.revision()?, view.count(Kind::Service, DEFAULT_WORKSPACE)?), (before, 0));
            Ok(())
        })
        .unwrap();
}

#[test]
fn nobody_commits_while_the_store_is_held() {
    let (_folder, stores) = stores();
    for store in stores {
        std::thread::scope(|scope| {
            let writer = store
                .hold(|view| {
                    let before = view.revision()?;
                    let write = || {
                        store.commit(AUTHOR, |transaction| {
                            transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(1, "one"))
                        })
                    };
                    let writer = scope.spawn(write);
                    std::thread::sleep(Duration::from_millis(20));
                    assert_eq!(view.revision()?, before);
                    Ok(writer)
                })
                .unwrap();
            writer.join().unwrap().unwrap();
        });
        assert_eq!(store.read(|view| view.count(Kind::Service, DEFAULT_WORKSPACE)).unwrap(), 1);
    }
}

#[test]
fn writers_take_turns() {
    let (_folder, stores) = stores();
    for store in stores {
        let before = store.read(|view| view.revision()).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0..10 {
                        let number = 1 + thread * 10 + number;
                        let put = |transaction: &mut Transaction<'_>| {
                            transaction.put(
                                Kind::Service,
                                DEFAULT_WORKSPACE,
                                service(number, &number.to_string()),
                            )
                        };
                        store.commit(AUTHOR, put).unwrap();
                    }
                });
            }
        });
        assert_eq!(store.read(|view| view.count(Kind::Service, DEFAULT_WORKSPACE)).unwrap(), 40);
        assert_eq!(store.read(|view| view.revision()).unwrap(), before + 40);
    }
}

/// Every list goes along an index: no table is scanned, nothing is sorted.
#[test]
fn lists_go_along_indexes() {
    let store = Store::memory().unwrap();
    store
        .read(|view| {
            for (name, plan) in view.plans()? {
                let plan = plan.join("\n");
                assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{name}:\n{plan}");
                assert!(plan.contains("SEARCH"), "{name}:\n{plan}");
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn what_has_expired_is_not_there() {
    let (_folder, stores) = stores();
    for store in stores {
        let key = |number: u128, created: u64, ttl: Value| {
            fields(json!({
                "id": id(number).to_string(), "key": "k", "consumer": {"id": id(1).to_string()}, "tags": ["t"],
                "created_at": created, "ttl": ttl
            }))
        };
        let put = |fields: Map<String, Value>| {
            store.commit(AUTHOR, |transaction| {
                let consumer = fields_of_consumer();
                transaction.put(Kind::Consumer, DEFAULT_WORKSPACE, consumer)?;
                transaction.put(Kind::KeyAuthCredential, DEFAULT_WORKSPACE, fields)
            })
        };
        let count = |filter: Option<&TagFilter>| {
            let list =
                |view: &View<'_>| view.list(Kind::KeyAuthCredential, DEFAULT_WORKSPACE, filter, 9, None);
            store.read(list).unwrap().entities.len()
        };
        let tag = TagFilter::parse("t").unwrap();
        put(key(2, seconds() - 10, json!(5))).unwrap();
        assert_eq!((count(None), count(Some(&tag))), (0, 0));
        let by_key = |view: &View<'_>| view.get_by_name(Kind::KeyAuthCredential, DEFAULT_WORKSPACE, "k");
        assert_eq!(store.read(by_key).unwrap(), None);
        // Its key is free again.
        put(key(3, seconds(), json!(500))).unwrap();
        assert_eq!((count(None), count(Some(&tag))), (1, 1));
        assert!(matches!(put(key(4, seconds(), Value::Null)), Err(StoreError::Unique { .. })));
    }
}

fn fields_of_consumer() -> Map<String, Value> {
    fields(json!({"id": id(1).to_string(), "username": "u"}))
}

#[test]
fn a_commit_without_room_leaves_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let store = Store::open(&path).unwrap();
    let limit = |pages: u32| lock(&store.writer).pragma_update(None, "max_page_count", pages).unwrap();
    let add = |numbers: std::ops::Range<u128>| {
        store.commit(AUTHOR, |transaction| {
            for number in numbers {
                transaction.put(Kind::Service, DEFAULT_WORKSPACE, service(number, &format!("s{number}")))?;
            }
            Ok(())
        })
    };
    // SQLite says the same where a page count is reached and where the disk has no room.
    limit(1);
    let error = add(0..20_000).unwrap_err();
    assert_eq!(error.to_string(), "the store failed: database or disk is full");
    let ahead = std::fs::metadata(folder.path().join("store.db-wal")).unwrap().len();
    assert_eq!(ahead, 0, "bytes written ahead");
    limit(u32::MAX);
    add(0..10).unwrap();
    assert_eq!(store.read(|view| view.count(Kind::Service, DEFAULT_WORKSPACE)).unwrap(), 10);
}
