//! A server that speaks as much of Redis as vectors need, with searches as RediSearch documents them
//! (`FT.CREATE`, `FT.SEARCH … KNN`). It stands in for a Redis with a search module, which Debian does not have.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

type Fields = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Default)]
struct State {
    /// By name: prefix of the keys, dimensions, metric.
    indexes: HashMap<String, (Vec<u8>, usize, String)>,
    hashes: BTreeMap<Vec<u8>, Fields>,
    /// Names of the commands received.
    commands: Vec<String>,
}

/// A running server; it ends with the process of the test.
pub struct SearchingRedis {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

enum Reply {
    Simple(&'static str),
    Error(String),
    Number(i64),
    Bulk(Vec<u8>),
    List(Vec<Reply>),
}

impl SearchingRedis {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || drop(serve(stream.unwrap(), &state)));
            }
        });
        Self { port, state }
    }

    /// Forgets everything, as `FLUSHALL` does; indexes go with it.
    pub fn flush(&self) {
        let mut state = self.state.lock().unwrap();
        state.hashes.clear();
        state.indexes.clear();
    }

    /// How often a command has come.
    pub fn count(&self, command: &str) -> usize {
        self.state.lock().unwrap().commands.iter().filter(|name| *name == command).count()
    }

    /// Keys of the hashes.
    pub fn keys(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.hashes.keys().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let count = number(&mut reader, b'*')?;
        let mut arguments = Vec::new();
        for _ in 0..count {
            let mut argument = vec![0; number(&mut reader, b'$')? + 2];
            reader.read_exact(&mut argument)?;
            argument.truncate(argument.len() - 2);
            arguments.push(argument);
        }
        let mut bytes = Vec::new();
        write(&answer(&mut state.lock().unwrap(), &arguments), &mut bytes);
        writer.write_all(&bytes)?;
    }
}

fn number(reader: &mut impl BufRead, kind: u8) -> std::io::Result<usize> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    let Some((first, rest)) = line.split_first() else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    assert_eq!(*first, kind);
    Ok(String::from_utf8_lossy(rest).trim().parse().unwrap())
}

fn write(reply: &Reply, bytes: &mut Vec<u8>) {
    match reply {
        Reply::Simple(text) => bytes.extend(format!("+{text}\r\n").bytes()),
        Reply::Error(text) => bytes.extend(format!("-{text}\r\n").bytes()),
        Reply::Number(number) => bytes.extend(format!(":{number}\r\n").bytes()),
        Reply::Bulk(value) => {
            bytes.extend(format!("${}\r\n", value.len()).bytes());
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        Reply::List(all) => {
            bytes.extend(format!("*{}\r\n", all.len()).bytes());
            all.iter().for_each(|one| write(one, bytes));
        }
    }
}

fn answer(state: &mut State, arguments: &[Vec<u8>]) -> Reply {
    let text = |at: usize| String::from_utf8_lossy(&arguments[at]).into_owned();
    let after = |name: &str| {
        let at = (0..arguments.len()).position(|at| text(at) == name);
        at.map(|at| arguments[at + 1].clone())
    };
    let name = text(0).to_ascii_uppercase();
    state.commands.push(name.clone());
    match &*name {
        "HSET" => {
            let fields = arguments[2..].chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
            state.hashes.entry(arguments[1].clone()).or_default().extend::<Fields>(fields);
            Reply::Number(1)
        }
        "EXISTS" => Reply::Number(state.hashes.contains_key(&arguments[1]).into()),
        "DEL" => Reply::Number(state.hashes.remove(&arguments[1]).is_some().into()),
        "FT.CREATE" if state.indexes.contains_key(&text(1)) => Reply::Error("Index already exists".into()),
        "FT.CREATE" => {
            let said: Vec<String> = (2..arguments.len()).map(text).collect();
            assert_eq!(said[..4], ["ON", "HASH", "PREFIX", "1"]);
            let schema = "SCHEMA namespace TAG id TAG vector VECTOR FLAT 6 TYPE FLOAT32 DIM".split(' ');
            assert_eq!(said[5..17], schema.collect::<Vec<_>>());
            assert_eq!(said[18], "DISTANCE_METRIC");
            let index = (arguments[6].clone(), said[17].parse().unwrap(), said[19].clone());
            state.indexes.insert(text(1), index);
            Reply::Simple("OK")
        }
        "FT.SEARCH" => match state.indexes.get(&text(1)) {
            None => Reply::Error(format!("{}: no such index", text(1))),
            Some(index) => {
                assert_eq!(
                    (after("PARAMS").unwrap(), after("DIALECT").unwrap()),
                    (b"2".to_vec(), b"2".to_vec())
                );
                search(state, index, &text(2), &after("vector").unwrap())
            }
        },
        other => Reply::Error(format!("ERR unknown command '{other}'")),
    }
}

/// A value of a tag as it stands in a query, between bars or braces.
fn unescaped(tag: &str) -> String {
    let (mut value, mut letters) = (String::new(), tag.chars());
    while let Some(letter) = letters.next() {
        // Unescaped, these separate or end tags.
        assert!(!"|{}*- ".contains(letter), "{tag}");
        value.push(if letter == '\\' { letters.next().unwrap() } else { letter });
    }
    value
}

/// `(@namespace:{…} @id:{…|…})=>[KNN k @vector $vector AS distance]`, the ids only where some alone count.
fn search(
    state: &State,
    (prefix, dimensions, metric): &(Vec<u8>, usize, String),
    query: &str,
    to: &[u8],
) -> Reply {
    let (tag, rest) = query.strip_prefix("(@namespace:{").unwrap().rsplit_once("})=>[KNN ").unwrap();
    let most: usize = rest.strip_suffix(" @vector $vector AS distance]").unwrap().parse().unwrap();
    let (tag, ids) = tag.split_once("} @id:{").map_or((tag, None), |(tag, ids)| (tag, Some(ids)));
    let namespace = unescaped(tag);
    let ids: Option<Vec<String>> = ids.map(|ids| ids.split('|').map(unescaped).collect());
    let counts = |fields: &Fields| {
        let id = String::from_utf8_lossy(&fields[&b"id"[..]]);
        let is_one = ids.as_ref().is_none_or(|ids| ids.iter().any(|one| *one == id));
        is_one && fields[&b"namespace"[..]] == namespace.as_bytes()
    };
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()).into()).collect()
    };
    let to = numbers(to);
    assert_eq!(to.len(), *dimensions);
    let mut found: Vec<(f64, &Vec<u8>, &Fields)> = state
        .hashes
        .iter()
        .filter(|(key, fields)| key.starts_with(prefix) && counts(fields))
        .map(|(key, fields)| {
            let vector = numbers(&fields[&b"vector"[..]]);
            let sum = |each: &dyn Fn(f64, f64) -> f64| -> f64 {
                vector.iter().zip(&to).map(|(one, other)| each(*one, *other)).sum()
            };
            let distance = match metric.as_str() {
                "L2" => sum(&|one, other| (one - other).powi(2)),
                "COSINE" => {
                    let lengths = (sum(&|one, _| one * one) * sum(&|_, other| other * other)).sqrt();
                    1.0 - sum(&|one, other| one * other) / lengths
                }
                other => panic!("{other}"),
            };
            (distance, key, fields)
        })
        .collect();
    found.sort_by(|one, other| one.0.total_cmp(&other.0));
    found.truncate(most);
    // By no score that says anything of the distance.
    found.sort_by_key(|(_, key, _)| key.as_slice());
    let mut answer = vec![Reply::Number(found.len() as i64)];
    for (distance, key, fields) in found {
        answer.push(Reply::Bulk(key.clone()));
        let pairs = [&b"id"[..], &fields[&b"id"[..]], b"distance", distance.to_string().as_bytes()]
            .map(|part| Reply::Bulk(part.to_vec()));
        answer.push(Reply::List(pairs.into()));
    }
    Reply::List(answer)
}
