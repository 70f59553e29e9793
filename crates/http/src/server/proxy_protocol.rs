//! The PROXY protocol: who connected to the load balancer in front.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest version 1 line.
const LONGEST_LINE: usize = 107;

/// Reads a header of version 1 or 2; the source address where it names one.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        return read_binary(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(invalid());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= LONGEST_LINE {
            return Err(invalid());
        }
        line.push(stream.read_u8().await?);
    }
    parse_line(&line).ok_or_else(invalid)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a PROXY protocol header")
}

fn parse_line(line: &[u8]) -> Option<Option<SocketAddr>> {
    let mut words = std::str::from_utf8(line).ok()?.trim_end().split(' ').skip(1);
    match words.next()? {
        "UNKNOWN" => Some(None),
        "TCP4" | "TCP6" => {
            let ip: IpAddr = words.next()?.parse().ok()?;
            let _destination: IpAddr = words.next()?.parse().ok()?;
            Some(Some(SocketAddr::new(ip, words.next()?.parse().ok()?)))
        }
        _ => None,
    }
}

async fn read_binary(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed).await?;
    let [command, family, high, low] = fixed;
    let mut addresses = vec![0; usize::from(u16::from_be_bytes([high, low]))];
    stream.read_exact(&mut addresses).await?;
    if command >> 4 != 2 {
        return Err(invalid());
    }
    if command & 0xf == 0 {
        return Ok(None);
    }
    let port = |at: usize| addresses.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let source = match family >> 4 {
        1 => addresses.first_chunk::<4>().map(|bytes| IpAddr::from(Ipv4Addr::from(*bytes))).zip(port(8)),
        2 => addresses.first_chunk::<16>().map(|bytes| IpAddr::from(Ipv6Addr::from(*bytes))).zip(port(32)),
        _ => None,
    };
    Ok(source.map(|(ip, port)| SocketAddr::new(ip, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let source = |line: &[u8]| parse_line(line);
        assert_eq!(
            source(b"PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n"),
            Some(Some("1.2.3.4:1000".parse().unwrap()))
        );
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), Some(None));
        assert_eq!(source(b"PROXY TCP4 x 5.6.7.8 1000 80\r\n"), None);
    }
}
