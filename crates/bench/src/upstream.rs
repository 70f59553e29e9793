//! The upstream all proxies share: answers every request at once, or streams where the request asks for it.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::provider::Provider;

/// Pieces of text of a streamed answer.
pub const CHUNKS: u64 = 200;

const PLAIN: &str = r#"{"ok":true}"#;
/// Microseconds since the bench began.
pub fn clock() -> f64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_secs_f64() * 1e6
}

/// When the newest event in these bytes was sent, by [`clock`].
pub fn sent(events: &[u8]) -> Option<f64> {
    let at = memchr::memmem::rfind(events, SENT)? + SENT.len();
    let rest = events.get(at..)?;
    // One that is cut off is not told yet.
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

/// What the text of every chunk begins with, its quote included: that it has been sent at the time that follows.
/// Conversions keep it.
pub const SENT: &[u8] = b"\" sent_us=";

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
        let Some((length, asked)) = read_request(&mut stream, &mut received).await? else {
            return Ok(());
        };
        received.drain(..length);
        let body = match asked {
            Asked::Stream(provider) => {
                stream_events(&mut stream, provider).await?;
                continue;
            }
            Asked::Chat(provider) => provider.whole().into(),
            Asked::Plain => Cow::Borrowed(PLAIN),
        };
        let answer = format!(
            "HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// What a request asks for.
enum Asked {
    Plain,
    Chat(Provider),
    Stream(Provider),
}

impl Asked {
    fn of(head: &[u8], body: &[u8]) -> Self {
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = std::str::from_utf8(line).unwrap_or_default();
        let Some(path) = line.strip_prefix("POST ").and_then(|rest| rest.split(' ').next()) else {
            return Self::Plain;
        };
        let provider = Provider::asked(path);
        let streams = path.ends_with("-stream") || memchr::memmem::find(body, b"\"stream\":true").is_some();
        if streams { Self::Stream(provider) } else { Self::Chat(provider) }
    }
}

/// Reads until a whole request is there: its length, and what it asks for.
async fn read_request(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
) -> std::io::Result<Option<(usize, Asked)>> {
    loop {
        if let Some(end) = memchr::memmem::find(received, b"\r\n\r\n") {
            let length = end + 4 + crate::load::content_length(&received[..end]);
            if received.len() >= length {
                return Ok(Some((length, Asked::of(&received[..end], &received[end + 4..length]))));
            }
        }
        if stream.read_buf(received).await? == 0 {
            return Ok(None);
        }
    }
}

async fn stream_events(stream: &mut TcpStream, provider: Provider) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: upstream\r\nContent-Type: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        provider.stream_type()
    );
    stream.write_all(&[head.as_bytes(), &chunk(&provider.start())].concat()).await?;
    let mut tick = tokio::time::interval(Duration::from_millis(4));
    for _ in 0..CHUNKS {
        tick.tick().await;
        let piece = provider.piece(&format!(" sent_us={:.0}", clock()));
        stream.write_all(&chunk(&piece)).await?;
    }
    stream.write_all(&[&chunk(&provider.end())[..], b"0\r\n\r\n"].concat()).await
}

/// Framed as HTTP frames chunks.
fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}
