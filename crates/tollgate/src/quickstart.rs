//! `quickstart`: a sample configuration in front of a mock LLM (or of OpenAI), and what to try with it.

use std::net::SocketAddr;
use std::time::Duration;

use tollgate_http::server::Listener;

use crate::command::wait_for_signal;
use crate::conf::{Configuration, Database, Node};
use crate::serve;

/// Arguments of `quickstart`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Port of the proxy; TLS is on the port 443 above it; 0 takes free ones
    #[arg(long, default_value_t = 8000)]
    port: u16,
}

const SAMPLE: &str = include_str!("quickstart/sample.yaml");

/// Serves the sample until told to stop.
///
/// # Errors
/// What keeps it from starting.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let mock =
        tollgate_mock::start(SocketAddr::from(([127, 0, 0, 1], 0)), tollgate_mock::Options::default())?;
    let mock_url = mock
        .addresses()
        .first()
        .map(|address| format!("http://{address}/v1/chat/completions"))
        .unwrap_or_default();
    let own_key = std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty());
    let (provider, key) = match &own_key {
        Some(key) => ("https://api.openai.com/v1/chat/completions".to_owned(), key.clone()),
        None => (mock_url, "mock".to_owned()),
    };
    let folder = std::env::temp_dir().join(format!("tollgate-quickstart-{}", std::process::id()));
    // Neither files nor variables count: what a machine has for Kong must not be in the way.
    let mut node = Configuration::default().check().map_err(|error| error.to_string())?;
    node.prefix = folder.clone();
    node.database = Database::Off;
    node.workers = 1;
    node.declarative_config_string =
        Some(SAMPLE.replace("PROVIDER_URL", &provider).replace("PROVIDER_KEY", &key));
    let tls_port = if arguments.port == 0 { 0 } else { arguments.port.saturating_add(443) };
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    node.admin.clear();
    node.status.clear();
    node.proxy = vec![
        Listener::plain(local(arguments.port)),
        Listener { ssl: true, http2: true, ..Listener::plain(local(tls_port)) },
    ];
    let outcome = serve_until_told(&node, own_key.is_some());
    mock.stop(outcome.as_ref().copied().unwrap_or_default());
    let _ = std::fs::remove_dir_all(folder);
    outcome.map(drop)
}

/// Serves until a signal comes; how long requests under way may then take.
fn serve_until_told(node: &Node, own_key: bool) -> Result<Duration, String> {
    let server = serve::start(node).map_err(|error| match error.to_string() {
        taken if taken.contains("cannot listen") => {
            format!("{taken}; choose a port with --port (0 for a free one)")
        }
        other => other,
    })?;
    tell(server.addresses(), own_key);
    let grace = wait_for_signal()?;
    server.stop(grace);
    Ok(grace)
}

fn tell(addresses: &[SocketAddr], own_key: bool) {
    let [plain, tls] = addresses else { return };
    let provider = if own_key {
        "OpenAI, with your OPENAI_API_KEY"
    } else {
        "a built-in mock LLM (set OPENAI_API_KEY to use OpenAI)"
    };
    println!("Tollgate serves /openai-route in front of {provider}.\n");
    println!("export DATA_PLANE_URL=http://{plain}");
    println!("  (with TLS and HTTP/2: https://{tls}, curl -k)\n");
    println!("Without a key it refuses:\n");
    println!(
        "  curl -i -X POST --url http://{plain}/openai-route \\\n    --header 'Content-Type: application/json' \\\n    --data '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Who is Jimi Hendrix?\"}}]}}'\n"
    );
    println!("With one it answers:\n");
    println!(
        "  curl -i -X POST --url http://{plain}/openai-route \\\n    --header 'Content-Type: application/json' --header 'apikey: 123456' \\\n    --data '{{\"messages\": [{{\"role\": \"user\", \"content\": \"Who is Jimi Hendrix?\"}}]}}'\n"
    );
    println!("Ctrl-C ends it and leaves nothing behind.");
}
