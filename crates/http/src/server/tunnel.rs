//! Upgraded connections: bytes both ways, whatever they mean.

use tokio::io::{AsyncWriteExt, copy_buf, split};

use super::wire::SharedWire;
use crate::Duplex;

/// Size of the buffer of either direction.
const BUFFER: usize = 16 * 1024;

/// Copies both ways until either side ends; what it sent last is passed on.
pub(super) async fn join(mut client: SharedWire, mut upstream: Box<dyn Duplex>) {
    {
        let (client_reads, mut client_writes) = split(&mut client);
        let (upstream_reads, mut upstream_writes) = split(&mut upstream);
        let mut client_reads = tokio::io::BufReader::with_capacity(BUFFER, client_reads);
        let mut upstream_reads = tokio::io::BufReader::with_capacity(BUFFER, upstream_reads);
        tokio::select! {
            _ = copy_buf(&mut client_reads, &mut upstream_writes) => {}
            _ = copy_buf(&mut upstream_reads, &mut client_writes) => {}
        }
    }
    let _ = tokio::join!(client.shutdown(), upstream.shutdown());
}
