//! Upgraded connections: bytes both ways, whatever they mean.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy_buf, split};

use super::wire::HeldWire;
use crate::Duplex;

/// Size of the buffer of either direction.
const BUFFER: usize = 16 * 1024;
/// How long one side may go on sending after the other has ended.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// Copies both ways. A side that ends its direction is passed on as just that; what the other still has to say
/// (the answer to a closing frame) reaches it within a bound.
pub(super) async fn join(client: &mut HeldWire, mut upstream: Box<dyn Duplex>) {
    let (client_reads, client_writes) = split(client);
    let (upstream_reads, upstream_writes) = split(&mut upstream);
    let mut up = std::pin::pin!(pass(client_reads, upstream_writes));
    let mut down = std::pin::pin!(pass(upstream_reads, client_writes));
    tokio::select! {
        ended = &mut up => if ended { let _ = tokio::time::timeout(HALF_CLOSED, down).await; },
        ended = &mut down => if ended { let _ = tokio::time::timeout(HALF_CLOSED, up).await; },
    }
}

/// Copies until `from` ends, then ends `to`; false where either fails.
async fn pass(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> bool {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let copied = copy_buf(&mut from, &mut to).await;
    to.shutdown().await.is_ok() && copied.is_ok()
}
