//! The upstream all proxies share: answers every request at once, or streams where the request asks for it.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Events of a streamed answer.
pub const CHUNKS: usize = 200;

const PLAIN: &str = r#"{"ok":true}"#;
const CHAT: &str = concat!(
    r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1741569952,"model":"gpt-4.1","#,
    r#""choices":[{"index":0,"message":{"role":"assistant","content":"A short answer that is as long as short answers are, "#,
    r#"so that a proxy which reads it has something to read.","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"#,
    r#""completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"#,
    r#""service_tier":"default"}"#
);

/// Microseconds since the bench began.
pub fn clock() -> f64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_secs_f64() * 1e6
}

/// When the newest event in these bytes was sent, by [`clock`].
pub fn sent(events: &[u8]) -> Option<f64> {
    let at = memchr::memmem::rfind(events, SENT.as_bytes())? + SENT.len();
    let digits = events.get(at..)?.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Name of the member that tells when an event was sent.
const SENT: &str = "\"sent_us\":";

/// Starts the upstream on a free port of the loopback and returns it.
pub async fn start() -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Ok(port)
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut received = Vec::with_capacity(16 * 1024);
    loop {
        let Some((length, is_post, streamed)) = read_request(&mut stream, &mut received).await? else {
            return Ok(());
        };
        received.drain(..length);
        if streamed {
            stream_events(&mut stream).await?;
            continue;
        }
        let body = if is_post { CHAT } else { PLAIN };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Reads until a whole request is there: its length, and what it asks for.
async fn read_request(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
) -> std::io::Result<Option<(usize, bool, bool)>> {
    loop {
        if let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
            let length = end + 4 + crate::load::content_length(&received[..end]);
            if received.len() >= length {
                let body = &received[end + 4..length];
                let streamed = memchr::memmem::find(body, b"\"stream\":true").is_some();
                return Ok(Some((length, received.starts_with(b"POST"), streamed)));
            }
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

async fn stream_events(stream: &mut TcpStream) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    let mut tick = tokio::time::interval(Duration::from_millis(4));
    for number in 0..CHUNKS {
        tick.tick().await;
        let event = format!(
            "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",{SENT}{:.0},\"model\":\"gpt-4.1\",\
             \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{number}\"}},\"logprobs\":null,\"finish_reason\":null}}]}}\n\n",
            clock()
        );
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
    let done = "data: [DONE]\n\n";
    stream.write_all(format!("{:x}\r\n{done}\r\n0\r\n\r\n", done.len()).as_bytes()).await
}
