//! Requests for which a cloud's account answers, by the whole binary: the provider gets the token or signature, many
//! wait for one fetch, none waits for a renewal, failures are told, and secrets stay out of the logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use common::cases;
use common::upstream::{Upstream, respond};
use common::{Answer, Tollgate, eventually, exchange, find};
use serde_json::{Value, json};

const CHAT: &[u8] =
    br#"{"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
const CONVERSE: &[u8] = br#"{"output":{"message":{"role":"assistant","content":[{"text":"Hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":1,"totalTokens":2}}"#;

fn provider(answer: &'static [u8]) -> Upstream {
    Upstream::start(move |request, stream| {
        respond(stream, request.method, "200 OK", "application/json", "", answer)
    })
}

/// Tollgate with one route to a provider, whose logs are read.
fn start(model: &Value, auth: &Value, environment: &[(&str, &str)]) -> Tollgate {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kong.yml");
    let log = folder.path().join("entries.log");
    let config = json!({
        "route_type": "llm/v1/chat", "auth": auth, "model": model,
        "logging": {"log_statistics": true, "log_payloads": true},
    });
    let document = json!({
        "_format_version": "3.0",
        "services": [{"name": "s", "host": "never.test", "routes": [{"name": "r", "paths": ["/chat"]}]}],
        "plugins": [{"name": "ai-proxy", "config": config}, {"name": "file-log", "config": {"path": log}}],
    });
    std::fs::write(&file, document.to_string()).unwrap();
    let settings = [
        ("KONG_DATABASE", "off"),
        ("KONG_DECLARATIVE_CONFIG", file.to_str().unwrap()),
        ("KONG_LOG_LEVEL", "debug"),
        ("KONG_PROXY_ACCESS_LOG", "logs/access.log"),
        ("KONG_NGINX_WORKER_PROCESSES", "2"),
    ];
    Tollgate::start_in(folder, &[&settings[..], environment].concat())
}

fn ask(port: u16) -> Answer {
    let json = ["Content-Type: application/json", "Authorization: Bearer of-the-client"];
    let request =
        json!({"method": "POST", "headers": json, "body": {"messages": [{"role": "user", "content": "Hi"}]}});
    exchange(port, &cases::request_bytes("chat", &request))
}

/// A header field of the last request that an upstream got.
fn last_field(upstream: &Upstream, name: &str) -> Option<String> {
    let requests = upstream.requests.lock().unwrap();
    let head = String::from_utf8_lossy(requests.last()?).into_owned();
    let field = format!("{name}: ");
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    lines.find_map(|line| {
        let (start, rest) = line.split_at_checked(field.len())?;
        start.eq_ignore_ascii_case(&field).then(|| rest.to_owned())
    })
}

/// Everything that was written below the node's folder, but for its configuration.
fn written(tollgate: &Tollgate) -> String {
    let logs = ["entries.log", "logs/error.log", "logs/access.log", "logs/admin_access.log"];
    logs.map(|log| std::fs::read_to_string(tollgate.folder.path().join(log)).unwrap_or_default()).concat()
}

fn azure(upstream: &Upstream) -> Value {
    let url = format!("http://127.0.0.1:{}/chat", upstream.port);
    json!({"provider": "azure", "name": "m", "options": {"azure_instance": "i", "azure_deployment_id": "d", "upstream_url": url}})
}

fn identity() -> Value {
    json!({"azure_use_managed_identity": true, "azure_client_id": "c", "azure_client_secret": "CANARY-secret", "azure_tenant_id": "t"})
}

/// Stands in a token service's way until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

#[test]
fn a_token_is_fetched_once_and_renewed_while_requests_go_on() {
    let upstream = provider(CHAT);
    let fetches = Arc::new(AtomicUsize::new(0));
    let gates: Arc<[Gate; 2]> = Arc::default();
    let (count, closed) = (Arc::clone(&fetches), Arc::clone(&gates));
    let service = Upstream::start(move |_, stream| {
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(gate) = closed.get(number - 1) {
            gate.pass();
        }
        let renew = if number == 1 { 0 } else { 3600 };
        let body = json!({"access_token": format!("CANARY-token-{number}"), "expires_in": 3600, "refresh_in": renew});
        respond(stream, "POST", "200 OK", "application/json", "", body.to_string().as_bytes())
    });
    let authority = format!("http://127.0.0.1:{}", service.port);
    let tollgate = start(&azure(&upstream), &identity(), &[("AZURE_AUTHORITY_HOST", &authority)]);
    let port = tollgate.proxy();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..20).map(|_| scope.spawn(move || ask(port).status)).collect();
        eventually("the token is asked for", || fetches.load(Ordering::SeqCst) == 1);
        gates[0].open();
        assert!(waiting.into_iter().all(|thread| thread.join().unwrap() == 200));
    });
    // The second fetch is on its way and does not end; what is held goes on being used.
    eventually("the token is renewed", || ask(port).status == 200 && fetches.load(Ordering::SeqCst) == 2);
    for _ in 0..5 {
        assert_eq!(ask(port).status, 200);
        assert_eq!(last_field(&upstream, "authorization").as_deref(), Some("Bearer CANARY-token-1"));
    }
    gates[1].open();
    eventually("the new token is used", || {
        assert_eq!(ask(port).status, 200);
        last_field(&upstream, "authorization").as_deref() == Some("Bearer CANARY-token-2")
    });
    assert_eq!(fetches.load(Ordering::SeqCst), 2);
    eventually("the entries are written", || written(&tollgate).contains("\"provider_name\":\"azure\""));
    assert!(!written(&tollgate).contains("CANARY"), "{}", written(&tollgate));
}

#[test]
fn a_token_that_cannot_be_had_is_told_and_asked_for_again() {
    let upstream = provider(CHAT);
    let refuses = Arc::new(Mutex::new(true));
    let refusing = Arc::clone(&refuses);
    let service = Upstream::start(move |_, stream| match *refusing.lock().unwrap() {
        true => {
            let body = br#"{"error":"invalid_client","error_description":"the app is unknown","hint":"CANARY-hint"}"#;
            respond(stream, "POST", "401 Unauthorized", "application/json", "", body)
        }
        false => {
            let body = br#"{"access_token":"CANARY-token","expires_in":3600}"#;
            respond(stream, "POST", "200 OK", "application/json", "", body)
        }
    });
    let authority = format!("http://127.0.0.1:{}", service.port);
    let tollgate = start(&azure(&upstream), &identity(), &[("AZURE_AUTHORITY_HOST", &authority)]);
    let answer = ask(tollgate.proxy());
    let expected = json!({"error": {"message": "LLM request failed before proxying"}});
    assert_eq!((answer.status, answer.json()), (500, expected));
    assert!(upstream.requests.lock().unwrap().is_empty());
    let cause = format!(
        "Azure: cloud-authentication failed: {authority}/t/oauth2/v2.0/token: status 401: invalid_client: the app is unknown"
    );
    eventually("the cause is logged", || written(&tollgate).contains(&cause));
    *refuses.lock().unwrap() = false;
    eventually("the token comes", || ask(tollgate.proxy()).status == 200);
    assert_eq!(last_field(&upstream, "authorization").as_deref(), Some("Bearer CANARY-token"));
    assert!(!written(&tollgate).contains("CANARY"), "{}", written(&tollgate));
}

#[test]
fn a_role_signs_for_bedrock_and_is_assumed_again_at_its_end() {
    let upstream = provider(CONVERSE);
    let assumed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&assumed);
    let service = Upstream::start(move |request, stream| {
        assert!(find(request.body, b"Action=AssumeRoleWithWebIdentity").is_some());
        assert!(find(request.body, b"WebIdentityToken=CANARY-identity").is_some());
        let number = count.fetch_add(1, Ordering::SeqCst) + 1;
        // The first session has ended when it comes.
        let end = if number == 1 { "2020-01-01T00:00:00Z" } else { "2999-01-01T00:00:00Z" };
        let body = format!(
            "<R><Credentials><AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>CANARY-key</SecretAccessKey><SessionToken>CANARY-session-{number}</SessionToken><Expiration>{end}</Expiration></Credentials></R>"
        );
        respond(stream, "POST", "200 OK", "text/xml", "", body.as_bytes())
    });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "CANARY-identity\n").unwrap();
    let sts = format!("http://127.0.0.1:{}", service.port);
    let url = format!("http://127.0.0.1:{}", upstream.port);
    let model = json!({"provider": "bedrock", "name": "m", "options": {"upstream_url": url, "bedrock": {"aws_region": "eu-west-1"}}});
    let environment = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.path().to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/r"),
        ("AWS_ENDPOINT_URL_STS", &sts),
    ];
    let tollgate = start(&model, &json!({}), &environment);
    eventually("there is a session", || ask(tollgate.proxy()).status == 200);
    let signature = last_field(&upstream, "authorization").unwrap();
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=ASIA2/"), "{signature}");
    assert!(
        signature
            .contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=host;x-amz-date;x-amz-security-token")
    );
    assert_eq!(last_field(&upstream, "x-amz-security-token").as_deref(), Some("CANARY-session-2"));
    assert_eq!(assumed.load(Ordering::SeqCst), 2);
    eventually("the entries are written", || written(&tollgate).contains("\"provider_name\":\"bedrock\""));
    assert!(!written(&tollgate).contains("CANARY"), "{}", written(&tollgate));
}
