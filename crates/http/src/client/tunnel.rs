//! Tunnels by way of HTTP proxies (RFC 9110 §9.3.6).

use std::io::{Error, ErrorKind};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Largest head of a proxy's answer, in bytes.
const LARGEST_HEAD: usize = 16 * 1024;

/// Asks the proxy at the other end to connect to `server` (`host:port`).
pub(super) async fn open(stream: &mut TcpStream, server: &str) -> std::io::Result<()> {
    let request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LARGEST_HEAD {
            return Err(Error::new(ErrorKind::InvalidData, "its answer is too large"));
        }
        // What follows the head is the server's.
        head.push(stream.read_u8().await?);
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let status = line.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    match line.starts_with(b"HTTP/1.") && status.len() == 3 && status.starts_with(b"2") {
        true => Ok(()),
        false => Err(Error::other(format!("it answers {:?}", String::from_utf8_lossy(line)))),
    }
}
