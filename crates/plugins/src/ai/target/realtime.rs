//! A conversation over a WebSocket: what the provider says passes at once, and is read on its way.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tollgate_http::Duplex;
use tollgate_llm::realtime::Conversation;
use tollgate_llm::usage::Seen;

/// What is read of a conversation, shared by its connection and by what follows the exchange.
#[derive(Clone, Default)]
pub(super) struct Listener(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    conversation: Conversation,
    /// When the answer under way began.
    answering: Option<Instant>,
    /// How long all the others took.
    answered: Duration,
}

impl State {
    fn read(&mut self, bytes: &[u8]) {
        self.conversation.read(bytes);
        match (self.answering, self.conversation.answers()) {
            (None, true) => self.answering = Some(Instant::now()),
            (Some(began), false) => {
                self.answered += began.elapsed();
                self.answering = None;
            }
            _ => {}
        }
    }
}

impl Listener {
    /// The provider's side, read as it passes.
    pub(super) fn listen(&self, upstream: Box<dyn Duplex>) -> Box<dyn Duplex> {
        Box::new(Listened { upstream, listener: self.clone() })
    }

    /// What was said, and how long it took the provider to say it.
    pub(super) fn take(&self) -> (Seen, Duration) {
        let mut state = self.state();
        let under_way = state.answering.take().map(|began| began.elapsed()).unwrap_or_default();
        (state.conversation.take_seen(), state.answered + under_way)
    }

    /// Nobody waits for it: only one of the two sides is ever at work.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Listened {
    upstream: Box<dyn Duplex>,
    listener: Listener,
}

impl AsyncRead for Listened {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.upstream).poll_read(context, buffer))?;
        if let Some(came) = buffer.filled().get(before..) {
            self.listener.state().read(came);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Listened {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.upstream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.upstream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.upstream).poll_shutdown(context)
    }
}
