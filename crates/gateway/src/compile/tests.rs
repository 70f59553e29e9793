//! A snapshot that followed changes is the one that is compiled from nothing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tollgate_http::Headers;
use tollgate_model::schema::Record;
use tollgate_model::{Kind, Map, PluginSchema, PluginSchemas, Source, Value, check_entity, json};
use uuid::Uuid;

use super::{Change, CompileError, Compiler, EntitySource};
use crate::chain::Chain;
use crate::destination::Host;
use crate::plugin::{BuildError, Phases, Plugin, PluginTypes, Scope};
use crate::router::MatchInput;
use crate::snapshot::{DEFAULT_WORKSPACE, Route, Snapshot};

struct Types(Vec<PluginSchema>);

struct Nothing(&'static str);

impl Plugin for Nothing {
    fn phases(&self) -> Phases {
        if self.0 == "alpha" { Phases::ACCESS } else { Phases::LOG }
    }

    fn secret_names(&self) -> Vec<String> {
        vec![format!("x-{}", self.0)]
    }
}

impl PluginSchemas for Types {
    fn get(&self, name: &str) -> Option<&PluginSchema> {
        self.0.iter().find(|plugin| plugin.name == name)
    }

    fn all(&self) -> Vec<&PluginSchema> {
        self.0.iter().collect()
    }
}

impl PluginTypes for Types {
    fn build(&self, name: &str, _: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(Nothing(self.get(name).map_or("", |schema| schema.name))))
    }
}

fn types() -> Types {
    static EMPTY: LazyLock<Record> = LazyLock::new(Record::default);
    let schemas = [("alpha", 10), ("beta", 10), ("gamma", 20)];
    Types(schemas.into_iter().map(|(name, priority)| PluginSchema::new(name, priority, &EMPTY)).collect())
}

struct Clock;

impl Source for Clock {
    fn now(&self) -> f64 {
        1000.0
    }
}

/// What a store would hold.
#[derive(Clone, Default)]
struct Entities(BTreeMap<(Kind, Uuid), (Uuid, Map<String, Value>)>);

impl EntitySource for Entities {
    fn for_each(
        &self,
        kind: Kind,
        each: &mut dyn FnMut(Uuid, Map<String, Value>) -> Result<(), CompileError>,
    ) -> Result<(), CompileError> {
        let mut of_kind = self.0.iter().filter(|((other, _), _)| *other == kind);
        of_kind.try_for_each(|(_, (workspace, fields))| each(*workspace, fields.clone()))
    }
}

type Changed = (Kind, Uuid, Uuid, Option<Map<String, Value>>);

/// Ids of a kind; the lowest bit tells the workspace.
fn id(kind: Kind, number: u64) -> Uuid {
    let place = Kind::ALL.iter().position(|other| *other == kind).unwrap() as u128;
    Uuid::from_u128(((place + 1) << 64) + u128::from(number) + 1)
}

fn workspace(number: u64) -> Uuid {
    if number.is_multiple_of(2) { DEFAULT_WORKSPACE } else { id(Kind::Workspace, 0) }
}

const MOST: u64 = 8;

impl Entities {
    /// Puts an entity whose fields follow from `dice`, where that would be allowed.
    fn put(&mut self, kind: Kind, number: u64, dice: &mut Dice, changes: &mut Vec<Changed>) {
        let (own, here) = (id(kind, number), workspace(number));
        let mut fields = self.fields(kind, number, dice);
        fields.retain(|_, value| !value.is_null());
        for key in kind.foreign_keys() {
            let refers = fields.get(key.field).and_then(|value| value["id"].as_str());
            if refers.is_some_and(|id| !self.0.contains_key(&(key.to, Uuid::parse_str(id).unwrap()))) {
                return;
            }
        }
        let same = |name: &str, other: &Map<String, Value>| other.get(name) == fields.get(name);
        let taken = self.0.iter().any(|((other_kind, other), (other_workspace, there))| {
            *other_kind == kind
                && *other != own
                && *other_workspace == here
                && match kind {
                    Kind::Upstream | Kind::Sni | Kind::Workspace | Kind::ConsumerGroup => same("name", there),
                    Kind::Plugin => {
                        ["name", "route", "service", "consumer", "consumer_group"].iter().all(|field| {
                            let there = there.get(*field).filter(|value| !value.is_null());
                            there == fields.get(*field)
                        })
                    }
                    _ => false,
                }
        });
        if taken {
            return;
        }
        fields.insert("id".into(), own.to_string().into());
        let fields = match kind {
            Kind::CaCertificate => fields,
            _ => check_entity(kind, fields, None, &types(), &Clock).unwrap(),
        };
        // That of a membership follows from what it joins.
        let own = Uuid::parse_str(fields["id"].as_str().unwrap()).unwrap();
        self.0.insert((kind, own), (here, fields.clone()));
        changes.push((kind, here, own, Some(fields)));
    }

    /// Deletes an entity and what goes with it, where nothing else is in the way.
    fn delete(&mut self, kind: Kind, own: Uuid, changes: &mut Vec<Changed>) {
        let text = own.to_string();
        let referring: Vec<(Kind, Uuid, bool)> = self
            .0
            .iter()
            .flat_map(|((other, id), (_, fields))| {
                let keys = other.foreign_keys().iter().filter(|key| key.to == kind);
                let refers = keys.filter(|key| {
                    fields.get(key.field).and_then(|value| value["id"].as_str()) == Some(&*text)
                });
                refers.map(|key| (*other, *id, key.cascade)).collect::<Vec<_>>()
            })
            .collect();
        if referring.iter().any(|(.., cascade)| !cascade) {
            return;
        }
        for (other, id, _) in referring {
            self.delete(other, id, changes);
        }
        if let Some((workspace, _)) = self.0.remove(&(kind, own)) {
            changes.push((kind, workspace, own, None));
        }
    }

    fn fields(&self, kind: Kind, number: u64, dice: &mut Dice) -> Map<String, Value> {
        let pair = |dice: &mut Dice| {
            static PAIRS: LazyLock<Vec<(String, String)>> =
                LazyLock::new(|| (0..3).map(|_| tollgate_http::server::self_signed().unwrap()).collect());
            PAIRS[dice.below(3) as usize].clone()
        };
        // Of the same workspace.
        let refer = |dice: &mut Dice, kind: Kind, some: u64| match some > 0 && dice.below(some) == 0 {
            true => Value::Null,
            false => json!({"id": id(kind, (dice.below(MOST) & !1) | (number & 1)).to_string()}),
        };
        let of_group = kind == Kind::Plugin && dice.below(3) == 0;
        let value = match kind {
            Kind::Workspace => json!({"name": format!("w{}", dice.below(3))}),
            Kind::Certificate => {
                let (cert, key) = pair(dice);
                json!({"cert": cert, "key": key})
            }
            Kind::CaCertificate => json!({"cert": pair(dice).0}),
            Kind::Sni => {
                json!({"name": format!("s{}.test", dice.below(4)), "certificate": refer(dice, Kind::Certificate, 0)})
            }
            Kind::Upstream => json!({
                "name": format!("up{}", dice.below(4)),
                "client_certificate": refer(dice, Kind::Certificate, 2),
                "host_header": (if dice.below(2) == 0 { Value::Null } else { json!("h.test") })
            }),
            Kind::Target => json!({
                "upstream": refer(dice, Kind::Upstream, 0),
                "target": format!("10.0.0.{}:80", dice.below(4)),
                "weight": dice.below(3) * 50
            }),
            Kind::Consumer => json!({"username": format!("user{number}-{}", dice.below(3))}),
            Kind::ConsumerGroup => json!({"name": dice.one(&["gold", "silver", "tin"])}),
            Kind::ConsumerGroupConsumer => json!({
                "consumer": refer(dice, Kind::Consumer, 0),
                "consumer_group": refer(dice, Kind::ConsumerGroup, 0)
            }),
            Kind::KeyAuthCredential => {
                json!({"key": format!("key{number}-{}", dice.below(3)), "consumer": refer(dice, Kind::Consumer, 0)})
            }
            Kind::Service => {
                let secure = dice.below(2) == 0;
                let authorities = json!([id(Kind::CaCertificate, dice.below(2)).to_string()]);
                json!({
                    "name": format!("service{number}"),
                    "host": (dice.one(&["up0", "up1", "up2", "plain.test"])),
                    "protocol": if secure { "https" } else { "http" },
                    "client_certificate": if secure { refer(dice, Kind::Certificate, 2) } else { Value::Null },
                    "ca_certificates": if secure && dice.below(2) == 0 { authorities } else { Value::Null },
                    "tls_verify": if secure { Value::Bool(true) } else { Value::Null },
                    "retries": dice.below(3),
                    "enabled": dice.below(4) > 0
                })
            }
            Kind::Route => {
                let paths = ["/", "/a", "/a/b", "~/a.c", "/ab", "/b"];
                let paths = json!([dice.one(&paths), dice.one(&paths)]);
                let hosts = ["x.test", "*.x.test", "x.*", "y.test:80"];
                let hosts = json!([dice.one(&hosts)]);
                json!({
                    "name": format!("route{number}"),
                    "paths": paths,
                    "hosts": if dice.below(2) == 0 { hosts } else { Value::Null },
                    "methods": if dice.below(3) == 0 { json!(["GET"]) } else { Value::Null },
                    "protocols": if dice.below(5) == 0 { json!(["grpc"]) } else { json!(["http", "https"]) },
                    "service": refer(dice, Kind::Service, 5),
                    "created_at": 1 + dice.below(3),
                    "strip_path": if dice.below(5) == 0 { Value::Null } else { json!(dice.below(2) == 0) }
                })
            }
            Kind::Plugin => json!({
                "name": (dice.one(&["alpha", "beta", "gamma"])),
                "route": refer(dice, Kind::Route, 2),
                "service": refer(dice, Kind::Service, 2),
                "consumer": (if of_group { Value::Null } else { refer(dice, Kind::Consumer, 2) }),
                "consumer_group": (if of_group { refer(dice, Kind::ConsumerGroup, 0) } else { Value::Null }),
                "enabled": dice.below(4) > 0
            }),
        };
        let Value::Object(mut fields) = value else { unreachable!() };
        if kind == Kind::Route && fields["protocols"] == json!(["grpc"]) {
            fields.remove("strip_path");
            fields.remove("methods");
        }
        fields
    }
}

/// Choices that follow from one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn one(&mut self, list: &[&'static str]) -> &'static str {
        list[self.below(list.len() as u64) as usize]
    }
}

/// All that can be seen of a snapshot.
fn describe(snapshot: &Snapshot, entities: &Entities) -> String {
    let mut said = String::new();
    let consumers: Vec<Uuid> = (0..MOST).map(|number| id(Kind::Consumer, number)).collect();
    let chain = |chain: &Chain| {
        let who = std::iter::once(None).chain(consumers.iter().copied().map(Some));
        let runs = who.map(|consumer| {
            let places =
                (0..chain.len()).filter_map(|place| chain.resolve(place, consumer, &snapshot.consumers));
            places.map(|plugin| plugin.scope.id.as_u128() as u64).collect::<Vec<_>>()
        });
        let phases = [Phases::ACCESS, Phases::RESPONSE, Phases::LOG].map(|phase| chain.has(phase));
        format!("{:?} {phases:?} fixed={}", runs.collect::<Vec<_>>(), chain.fixed.is_some())
    };
    let route = |route: &Route| {
        let service = route.service.as_ref().map(|service| {
            let destination = match &service.destination.host {
                Host::One(peer) => format!("{peer:?}"),
                Host::Upstream(balancer) => {
                    let known = snapshot.upstreams.get(&(route.workspace, balancer.name.clone()));
                    assert!(known.is_some_and(|known| Arc::ptr_eq(known, balancer)));
                    format!("{} {:?}", balancer.name, balancer.targets())
                }
            };
            let tls = &service.destination.tls;
            format!("{} {} {destination} {tls:?} {:?}", service.id, service.retries, service.entity)
        });
        format!("{} {:?} {service:?} {} {:?}", route.id, route.name, chain(&route.chain), route.entity)
    };
    let mut routes: Vec<String> = snapshot.routes.iter().flatten().map(|one| route(one)).collect();
    routes.sort();
    let _ = writeln!(said, "{routes:#?}");
    let hosts = ["x.test", "a.x.test", "x.org", "y.test", "y.test:80", "z"];
    for (host, path) in
        hosts.iter().flat_map(|host| ["/", "/a", "/a/b/c", "/abc", "/b"].map(|path| (host, path)))
    {
        for method in ["GET", "POST"] {
            let headers = Headers::new();
            let found = snapshot.router.find(&MatchInput {
                method,
                host,
                path: path.as_bytes(),
                headers: &headers,
                server_name: None,
                port: 80,
                tls: false,
            });
            let found = found.map(|found| {
                let route = snapshot.routes.get(found.route).cloned().flatten().unwrap();
                (route.id, found.matched_length, found.captures)
            });
            let _ = writeln!(said, "{method} {host} {path} {found:?}");
        }
    }
    let _ = writeln!(said, "unmatched {}", chain(&snapshot.unmatched));
    for (kind, own) in entities.0.keys() {
        match kind {
            Kind::Consumer => {
                let _ = writeln!(said, "{:?}", snapshot.consumers.get(*own));
                let _ = writeln!(said, "{:?}", snapshot.consumers.groups_of(*own));
            }
            Kind::KeyAuthCredential => {
                let (workspace, fields) = &entities.0[&(*kind, *own)];
                let key = fields["key"].as_str().unwrap();
                let _ = writeln!(said, "{:?}", snapshot.consumers.credential(*kind, *workspace, key));
            }
            _ => {}
        }
    }
    let _ = writeln!(said, "{} {}", snapshot.consumers.len(), snapshot.consumers.credentials_len());
    let served = snapshot.certificates.iter().map(|served| {
        let pairs: Vec<_> =
            served.pairs.iter().map(|(chain, key)| (chain.clone(), key.expose().to_owned())).collect();
        format!("{:?} {pairs:?}", served.names)
    });
    let mut lines: Vec<String> = served.collect();
    let upstreams = snapshot.upstreams.iter();
    lines.extend(upstreams.map(|(name, balancer)| {
        format!("{name:?} {:?} {:?} {:?}", balancer.host_header, balancer.targets(), balancer.settings())
    }));
    lines.extend(snapshot.workspaces.iter().map(|workspace| format!("{workspace:?}")));
    lines.extend(snapshot.plugins().map(|plugin| format!("{plugin:?}")));
    lines.sort();
    let secrets = ["x-alpha", "x-beta", "x-gamma"].map(|name| snapshot.secret_names.contains(name));
    let _ = writeln!(said, "{lines:#?} {secrets:?}");
    said
}

fn follow(compiler: &Compiler, previous: &Snapshot, changed: &[Changed]) -> Snapshot {
    let changes: Vec<Change<'_>> = changed
        .iter()
        .map(|(kind, workspace, id, after)| Change {
            kind: *kind,
            workspace: *workspace,
            id: *id,
            after: after.as_ref(),
        })
        .collect();
    compiler.update(previous.revision + 1, previous, &changes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn following_changes_is_compiling_from_nothing(
        begin in proptest::collection::vec((0..Kind::ALL.len(), 0..MOST, any::<u64>()), 0..60),
        revisions in proptest::collection::vec(
            proptest::collection::vec((0..Kind::ALL.len(), 0..MOST, any::<u64>(), 0..10), 1..6),
            1..14,
        ),
    ) {
        let compiler = Compiler::new(Arc::new(types()), false);
        let mut entities = Entities::default();
        for (kind, number, dice) in begin {
            entities.put(Kind::ALL[kind], number, &mut Dice(dice), &mut Vec::new());
        }
        let mut snapshot = compiler.compile(1, &entities).unwrap();
        for changes in revisions {
            let before = (describe(&snapshot, &entities), entities.clone(), snapshot.clone());
            let mut changed = Vec::new();
            for (kind, number, dice, what) in changes {
                let kind = Kind::ALL[kind];
                match what {
                    0..7 => entities.put(kind, number, &mut Dice(dice), &mut changed),
                    7..9 => {
                        let of_kind = entities.0.keys().filter(|(other, _)| *other == kind);
                        let own = of_kind.map(|(_, own)| *own).nth(number as usize);
                        own.into_iter().for_each(|own| entities.delete(kind, own, &mut changed));
                    }
                    // As when a whole configuration is replaced.
                    _ => {
                        let all = entities.clone();
                        for ((kind, own), (workspace, fields)) in all.0 {
                            changed.push((kind, workspace, own, None));
                            changed.push((kind, workspace, own, Some(fields)));
                        }
                    }
                }
            }
            snapshot = follow(&compiler, &snapshot, &changed);
            let anew = compiler.compile(snapshot.revision, &entities).unwrap();
            let (followed, anew) = (describe(&snapshot, &entities), describe(&anew, &entities));
            let same = followed.bytes().zip(anew.bytes()).take_while(|(a, b)| a == b).count();
            let rest = |text: &str| -> String { text.chars().skip(same.saturating_sub(40)).take(300).collect() };
            prop_assert!(followed == anew, "followed: …{}…\nanew: …{}…", rest(&followed), rest(&anew));
            prop_assert_eq!(describe(&before.2, &before.1), before.0, "what was there before has changed");
        }
    }
}

#[test]
fn what_a_change_does_not_touch_is_shared() {
    let compiler = Compiler::new(Arc::new(types()), false);
    let mut entities = Entities::default();
    let mut changed = Vec::new();
    for number in 0..MOST {
        for (kind, fields) in [
            (Kind::Upstream, json!({"name": format!("up{number}")})),
            (Kind::Service, json!({"host": format!("up{number}")})),
            (
                Kind::Route,
                json!({"paths": [format!("/{number}")], "service": {"id": id(Kind::Service, number).to_string()}}),
            ),
            (Kind::Plugin, json!({"name": "alpha", "route": {"id": id(Kind::Route, number).to_string()}})),
        ] {
            let Value::Object(mut fields) = fields else { unreachable!() };
            fields.insert("id".into(), id(kind, number).to_string().into());
            let fields = check_entity(kind, fields, None, &types(), &Clock).unwrap();
            entities.0.insert((kind, id(kind, number)), (DEFAULT_WORKSPACE, fields));
        }
    }
    let snapshot = compiler.compile(1, &entities).unwrap();
    for kind in [Kind::Upstream, Kind::Service, Kind::Route, Kind::Plugin] {
        let (workspace, mut fields) = entities.0[&(kind, id(kind, 3))].clone();
        match kind {
            Kind::Upstream => fields.insert("host_header".into(), "other.test".into()),
            Kind::Service => fields.insert("retries".into(), 1.into()),
            Kind::Route => fields.insert("strip_path".into(), false.into()),
            _ => fields.insert("instance_name".into(), "other".into()),
        };
        changed.push((kind, workspace, id(kind, 3), Some(fields)));
        let next = follow(&compiler, &snapshot, &changed);
        let route = |snapshot: &Snapshot, number: u64| {
            let mut routes = snapshot.routes.iter().flatten();
            Arc::clone(routes.find(|route| route.id == id(Kind::Route, number)).unwrap())
        };
        for number in 0..MOST {
            let same = Arc::ptr_eq(&route(&snapshot, number), &route(&next, number));
            assert_eq!(same, number != 3, "{kind:?} {number}");
        }
        let (before, after) = (route(&snapshot, 3), route(&next, 3));
        assert_eq!(Arc::ptr_eq(&before.chain, &after.chain), matches!(kind, Kind::Upstream | Kind::Service));
        changed.clear();
    }
}
