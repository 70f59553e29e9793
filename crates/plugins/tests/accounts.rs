//! Accounts against token services over real sockets: what each is asked, word for word, and what comes of its
//! answers. The cases are `accounts/*.json`:
//!
//! ```json
//! {"title": "…", "settings": {"client_id": "…"}, "variables": {"AWS_PROFILE": "…"}, "files": {"token": "…"},
//!  "asks": [{"expect": {"method": "POST", "path": "/…", "headers": {"metadata": "true"}, "form": {"a": "b"}},
//!            "answer": {"status": 200, "body": {}}}],
//!  "proof": "Bearer …", "error": "…"}
//! ```
//!
//! `${SERVER}` stands for the service's address, `${FILES}` for the folder of the files, `${SOON}` for a time in an
//! hour, `${KEY}` for the key of a service account, as JSON text. Of AWS, `proof` is the keys; `signed` demands a
//! signature with keys in a region; `assertion` names claims of a signed JWT.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tollgate_http::Headers;
use tollgate_llm::sigv4::{Signer, ToSign};
use tollgate_model::Secret;
use tollgate_plugins::ai::accounts::aws::{AwsAccount, AwsSettings};
use tollgate_plugins::ai::accounts::azure::{AzureAccount, AzureSettings};
use tollgate_plugins::ai::accounts::gcp::{GcpAccount, GcpSettings};
use tollgate_plugins::ai::accounts::renewed::{Known, Source};

const KEY: &str = include_str!("accounts/key.pem");
const PUBLIC_KEY: &[u8] = include_bytes!("accounts/public.der");

/// What a service was asked.
struct Asked {
    method: String,
    target: String,
    headers: HashMap<String, String>,
    body: String,
}

/// A token service that answers by a list, one connection after the other, and keeps what it was asked.
struct Service {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Service {
    fn start(answers: Arc<Mutex<Vec<Value>>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let told = Arc::clone(&asked);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let request = read_request(&mut stream);
                let mut answers = answers.lock().unwrap();
                let answer = if answers.is_empty() { json!({"status": 599}) } else { answers.remove(0) };
                told.lock().unwrap().push(request);
                let body = match &answer["body"] {
                    Value::Null => String::new(),
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let status = answer["status"].as_u64().unwrap_or(200);
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Self { address, asked }
    }
}

fn read_request(stream: &mut impl Read) -> Asked {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let mut line = lines.next().unwrap().split(' ').map(str::to_owned);
            let headers: HashMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                let (method, target) = (line.next().unwrap(), line.next().unwrap());
                return Asked { method, target, headers, body: body.to_owned() };
            }
        }
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the connection closed inside a request");
        received.extend_from_slice(&buffer[..count]);
    }
}

fn pairs(text: &str) -> Value {
    let pairs = tollgate_gateway::query::parse(text.as_bytes());
    pairs.map(|(name, value)| (name.into_owned(), json!(value.unwrap_or_default()))).collect()
}

/// What is wrong with what a service was asked.
fn check(expected: &Value, asked: &Asked) -> Result<(), String> {
    let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
    let differs = |what: &str, expected: &Value, actual: Value| match *expected == actual {
        true => Ok(()),
        false => Err(format!("{what} is {actual}, expected {expected}")),
    };
    differs("method", &expected["method"], json!(asked.method))?;
    differs("path", &expected["path"], json!(path))?;
    if !expected["query"].is_null() {
        differs("query", &expected["query"], pairs(query))?;
    }
    for (name, value) in expected["headers"].as_object().into_iter().flatten() {
        differs(name, value, asked.headers.get(name).map_or(Value::Null, |value| json!(value)))?;
    }
    let mut form = expected["form"].clone();
    let mut sent = if form.is_null() { Value::Null } else { pairs(&asked.body) };
    if !expected["assertion"].is_null() {
        let assertion = sent.as_object_mut().unwrap().remove("assertion").unwrap();
        check_assertion(&expected["assertion"], assertion.as_str().unwrap())?;
    }
    differs("form", &form.take(), sent)?;
    if !expected["json"].is_null() {
        differs("JSON", &expected["json"], serde_json::from_str(&asked.body).unwrap_or_default())?;
    }
    match &expected["signed"] {
        Value::Null => differs("signature", &Value::Null, json!(asked.headers.get("x-amz-date"))),
        signed => check_signature(signed, asked),
    }
}

/// A JWT that the service account's key has signed, with these claims beside the times.
fn check_assertion(expected: &Value, assertion: &str) -> Result<(), String> {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let schemes = provider.signature_verification_algorithms.mapping;
    let (_, algorithms) =
        schemes.iter().find(|(scheme, _)| *scheme == rustls::SignatureScheme::RSA_PKCS1_SHA256).unwrap();
    algorithms[0]
        .verify_signature(PUBLIC_KEY, signed.as_bytes(), &decode(signature))
        .map_err(|_| "the assertion's signature is wrong".to_owned())?;
    let (header, claims) = signed.split_once('.').unwrap();
    let read = |part| serde_json::from_slice::<Value>(&decode(part)).unwrap();
    let (header, mut claims) = (read(header), read(claims));
    let members = claims.as_object_mut().unwrap();
    let (issued, ends) = (members.remove("iat").unwrap(), members.remove("exp").unwrap());
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let issued = issued.as_i64().unwrap();
    assert!((now - 60..=now).contains(&issued) && ends.as_i64() == Some(issued + 3600));
    match json!({"header": header, "claims": claims}) == *expected {
        true => Ok(()),
        false => Err(format!("the assertion says {header} {claims}")),
    }
}

/// The request as AWS would sign it itself, at the time it says, with the keys it has to be signed with.
fn check_signature(expected: &Value, asked: &Asked) -> Result<(), String> {
    let text = |name: &str| expected[name].as_str();
    let signer = Signer::new(text("id").unwrap(), text("secret").unwrap(), text("token"));
    let date = &asked.headers["x-amz-date"];
    let part = |from: usize, to: usize| &date[from..to];
    let written = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(9, 11),
        part(11, 13),
        part(13, 15)
    );
    let at = SystemTime::from(OffsetDateTime::parse(&written, &Rfc3339).unwrap());
    let request = ToSign {
        method: &asked.method,
        host: &asked.headers["host"],
        path: &asked.target,
        body: asked.body.as_bytes(),
        region: text("region").unwrap(),
        service: "sts",
    };
    for (name, value) in signer.sign(&request, at).unwrap() {
        if asked.headers.get(name) != Some(&value) {
            return Err(format!("{name} is {:?}, expected {value}", asked.headers.get(name)));
        }
    }
    Ok(())
}

/// Keys, shown by what they sign.
fn signature(signer: &Signer) -> Vec<(&'static str, String)> {
    let request = ToSign { method: "GET", host: "a", path: "/", body: b"", region: "r", service: "s" };
    signer.sign(&request, SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)).unwrap()
}

fn filled(value: &Value, server: &str, files: &str) -> Value {
    let soon = OffsetDateTime::now_utc() + Duration::from_secs(3600);
    let text = value
        .to_string()
        .replace("${SERVER}", server)
        .replace("${FILES}", files)
        .replace("${SOON}", &soon.format(&Rfc3339).unwrap())
        .replace("${KEY}", &KEY.replace('\n', "\\n"))
        .replace("${KEY_IN_JSON}", &KEY.replace('\n', "\\\\n"));
    serde_json::from_str(&text).unwrap()
}

/// Runs the cases of a table; `prove` gives what an account proves itself with, and what it is expected to.
fn run<F: Future<Output = Result<(Value, Value), String>>>(table: &str, prove: impl Fn(Value) -> F) {
    let cases: Vec<Value> = serde_json::from_str(table).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let folder = tempfile::tempdir().unwrap();
        let answers: Arc<Mutex<Vec<Value>>> = Arc::default();
        let service = Service::start(Arc::clone(&answers));
        let case = filled(case, &service.address, folder.path().to_str().unwrap());
        for (name, content) in case["files"].as_object().into_iter().flatten() {
            std::fs::write(folder.path().join(name), content.as_str().unwrap()).unwrap();
        }
        let asks = case["asks"].as_array().cloned().unwrap_or_default();
        *answers.lock().unwrap() = asks.iter().map(|ask| ask["answer"].clone()).collect();
        let outcome = match runtime.block_on(prove(case.clone())) {
            Ok((proof, expected)) if proof == expected => Ok(()),
            Ok((proof, _)) => Err(format!("proved by {proof}")),
            Err(error) if Some(&*error) == case["error"].as_str() => Ok(()),
            Err(error) => Err(format!("failed: {error}")),
        };
        let asked = service.asked.lock().unwrap();
        let outcome = outcome.and_then(|()| {
            if asked.len() != asks.len() {
                return Err(format!("asked {} times", asked.len()));
            }
            asks.iter().zip(&*asked).try_for_each(|(ask, asked)| check(&ask["expect"], asked))
        });
        wrong.extend(outcome.err().map(|error| format!("{}: {error}", case["title"])));
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn text(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(str::to_owned)
}

/// What a case has of a variable.
fn variable(case: &Value) -> impl Fn(&str) -> Option<String> + Sync + use<> {
    let variables = case["variables"].clone();
    move |name| text(&variables, name)
}

async fn bearer<S>(source: S, case: &Value) -> Result<(Value, Value), String>
where
    S: Source<Credential = tollgate_plugins::ai::accounts::oauth::Bearer>,
{
    let token = Known::new().account(source).wait().await.map_err(|error| error.to_string())?;
    let mut headers = Headers::new();
    token.authorize(&mut headers);
    Ok((json!(headers.get_str("authorization")), case["proof"].clone()))
}

#[test]
fn aws() {
    run(include_str!("accounts/aws.json"), |case| async move {
        let settings = &case["settings"];
        let settings = AwsSettings {
            key_id: text(settings, "key_id").map(Secret::new),
            secret_key: text(settings, "secret_key").map(Secret::new),
            role_arn: text(settings, "role_arn"),
            session_name: text(settings, "session_name"),
            sts_endpoint: text(settings, "sts_endpoint"),
            region: text(settings, "region"),
        };
        let source = AwsAccount::new(&settings, &variable(&case)).map_err(|error| format!("{error:?}"))?;
        let keys = Known::new().account(source).wait().await.map_err(|error| error.to_string())?;
        let expected = &case["proof"];
        let signer = Signer::new(
            expected["id"].as_str().unwrap_or_default(),
            expected["secret"].as_str().unwrap_or_default(),
            expected["token"].as_str(),
        );
        Ok((json!(signature(&keys.signer())), json!(signature(&signer))))
    });
}

#[test]
fn azure() {
    run(include_str!("accounts/azure.json"), |case| async move {
        let settings = &case["settings"];
        let settings = AzureSettings {
            client_id: text(settings, "client_id"),
            client_secret: text(settings, "client_secret").map(Secret::new),
            tenant_id: text(settings, "tenant_id"),
        };
        let source = AzureAccount::new(&settings, &variable(&case)).map_err(|error| error.to_string())?;
        bearer(source, &case).await
    });
}

#[test]
fn gcp() {
    run(include_str!("accounts/gcp.json"), |case| async move {
        let settings = &case["settings"];
        let settings = GcpSettings {
            service_account: text(settings, "service_account").map(Secret::new),
            metadata_url: text(settings, "metadata_url"),
            token_url: text(settings, "token_url"),
        };
        let source = GcpAccount::new(&settings, &variable(&case)).map_err(|error| error.to_string())?;
        bearer(source, &case).await
    });
}
