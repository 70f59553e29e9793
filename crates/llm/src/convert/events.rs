//! A streamed answer as every format has a notion of it: providers' events are read as calls of [`Events`], which
//! has them written in the client's format at once.

use bytes::{Bytes, BytesMut};

use super::answer::{Failure, Finish, Image, Tokens};
use super::audio::Audio;
use super::openai;
use super::whole::Collected;
use crate::json::{Object, quote, unquote};
use crate::provider::{Asked, Shape, Stream, StreamWishes};
use crate::request::Call;
use crate::usage::Seen;

/// Whether the client asks for the tokens of a streamed answer. Formats other than OpenAI's always tell them.
pub(crate) fn usage_is_wanted(call: &Call<'_>) -> bool {
    let options = call.body.get("stream_options").and_then(|options| Object::parse(options.as_bytes()));
    options.is_some_and(|options| options.get("include_usage") == Some("true"))
}

/// Most answers to one request that are told apart: OpenAI gives no more.
const MOST_CHOICES: u64 = 128;

/// Writes the events of one format. Texts come as JSON text of a string, quotes included, and are never empty.
/// The order of calls is that of [`Events`]: a block ends where another kind begins, and nothing follows `done` or
/// `fail`. Of several answers (`n`, `candidateCount`) each has an order of its own.
pub(crate) trait Writer: Send {
    /// Names the answer and who gives it, in all that follows. Comes before `start`, if at all.
    fn name(&mut self, id: Option<&str>, model: Option<&str>);

    /// Turns to another of the answers, which all that follows is of; the first is 0. `false` where the format has
    /// one answer only, and this is another.
    fn choice(&mut self, index: u64) -> bool {
        index == 0
    }

    /// The assistant begins to speak; the tokens are those of the prompt, where they are known already.
    fn start(&mut self, out: &mut BytesMut, tokens: Option<Tokens>);

    /// A piece of text.
    fn text(&mut self, out: &mut BytesMut, quoted: &str);

    /// A piece of the model's thoughts.
    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str);

    /// A piece of the signature of the thoughts before it.
    fn signature(&mut self, out: &mut BytesMut, quoted: &str) {
        let _ = (out, quoted);
    }

    /// Thoughts that the provider has enciphered, whole.
    fn redacted(&mut self, out: &mut BytesMut, quoted: &str) {
        let _ = (out, quoted);
    }

    /// A piece of what the model says where it declines.
    fn refusal(&mut self, out: &mut BytesMut, quoted: &str) {
        self.text(out, quoted);
    }

    /// A picture; `index` counts them from 0. Formats without a place for it leave it out.
    fn image(&mut self, out: &mut BytesMut, index: usize, image: Image) {
        let _ = (out, index, image);
    }

    /// A piece of what the model speaks. Formats without a place for it leave it out.
    fn audio(&mut self, out: &mut BytesMut, piece: Audio) {
        let _ = (out, piece);
    }

    /// A call of a tool begins; `index` counts calls from 0.
    fn call(&mut self, out: &mut BytesMut, index: usize, id: &str, name: &str);

    /// A piece of the arguments of the call that began last.
    fn arguments(&mut self, out: &mut BytesMut, index: usize, quoted: &str);

    /// The call that began last has all its arguments.
    fn end_call(&mut self, out: &mut BytesMut, index: usize) {
        let _ = (out, index);
    }

    /// Why the answer ended. Only tokens may follow.
    fn finish(&mut self, out: &mut BytesMut, finish: &Finish);

    /// The answer is complete.
    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>);

    /// An error stands where the answer should go on; its status is what it would be as an answer.
    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>);
}

/// Writes nothing: for answers that pass as they are, and are only to be known.
pub(crate) struct Silent;

impl Writer for Silent {
    fn name(&mut self, _: Option<&str>, _: Option<&str>) {}
    fn choice(&mut self, _: u64) -> bool {
        true
    }
    fn start(&mut self, _: &mut BytesMut, _: Option<Tokens>) {}
    fn text(&mut self, _: &mut BytesMut, _: &str) {}
    fn reasoning(&mut self, _: &mut BytesMut, _: &str) {}
    fn call(&mut self, _: &mut BytesMut, _: usize, _: &str, _: &str) {}
    fn arguments(&mut self, _: &mut BytesMut, _: usize, _: &str) {}
    fn finish(&mut self, _: &mut BytesMut, _: &Finish) {}
    fn done(&mut self, _: &mut BytesMut, _: Option<Tokens>) {}
    fn fail(&mut self, _: &mut BytesMut, _: &Failure<'_>) {}
}

/// A streamed answer that passes as it is, read by what knows its format: for usage and text.
pub(crate) struct Passed(Box<dyn Stream>);

impl Passed {
    /// Of what reads its format; that is all there is to it where the client is to have a whole answer.
    pub fn stream<R: Stream + 'static>(
        wishes: StreamWishes,
        reader: impl FnOnce(StreamWishes) -> R,
    ) -> Box<dyn Stream> {
        match wishes.shape {
            Shape::Whole => Box::new(reader(wishes)),
            _ => Box::new(Self(Box::new(reader(StreamWishes { shape: Shape::Nothing, ..wishes })))),
        }
    }
}

impl Stream for Passed {
    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.0.chunk(chunk.clone());
        chunk
    }

    fn end(&mut self) -> Bytes {
        self.0.end();
        Bytes::new()
    }

    fn take_seen(&mut self) -> Seen {
        self.0.take_seen()
    }
}

/// The events that go to the client, and what is known of the answer by them.
pub(crate) struct Events {
    out: BytesMut,
    writer: Box<dyn Writer>,
    wishes: StreamWishes,
    pub seen: Seen,
    /// Tokens as far as they are told.
    pub tokens: Option<Tokens>,
    /// Which of the answers is told of, and how far it is.
    index: u64,
    choice: Progress,
    /// The others that have been told of.
    others: Vec<(u64, Progress)>,
    state: State,
}

/// How far one of the answers is.
#[derive(Debug, Default)]
struct Progress {
    /// The tool whose call is under way: its index, and whether anything of its arguments has come.
    call: Option<(usize, bool)>,
    calls: usize,
    images: usize,
    started: bool,
    finished: bool,
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    /// Its end has been told.
    Done,
    /// An error has been told; nothing follows.
    Failed,
}

impl Events {
    pub fn new(asked: &Asked<'_>, wishes: StreamWishes) -> Self {
        Self {
            out: BytesMut::new(),
            writer: match wishes.shape {
                Shape::Events => asked.format.client().writer(asked, wishes.hide_usage),
                Shape::Whole => Box::new(Collected::new(asked)),
                Shape::Nothing => Box::new(Silent),
            },
            wishes,
            seen: Seen::default(),
            tokens: None,
            index: 0,
            choice: Progress::default(),
            others: Vec::new(),
            state: State::UnderWay,
        }
    }

    /// Names the answer and who gives it, in all that follows.
    pub fn name(&mut self, id: Option<&str>, model: Option<&str>) {
        if let Some(model) = model {
            self.seen.model = Some(model.to_owned());
        }
        self.writer.name(id, model);
    }

    /// Turns to another of the answers, which all that follows is of; without a word of it that is the first. `false`
    /// where the client's format has no place for it, and it has to be left out.
    pub fn choice(&mut self, index: u64) -> bool {
        if index == self.index {
            return true;
        }
        if index >= MOST_CHOICES || !self.writer.choice(index) {
            return false;
        }
        let known = self.others.iter().position(|(other, _)| *other == index);
        let next = known.map(|at| self.others.swap_remove(at).1).unwrap_or_default();
        let before = std::mem::replace(&mut self.choice, next);
        self.others.push((std::mem::replace(&mut self.index, index), before));
        true
    }

    /// Says that the assistant speaks, if nothing has said so yet.
    pub fn start(&mut self) {
        if self.state == State::UnderWay && !self.choice.started {
            self.choice.started = true;
            self.writer.start(&mut self.out, self.tokens);
        }
    }

    /// Whether a piece that came can go on.
    fn takes(&mut self, quoted: &str) -> bool {
        if self.state != State::UnderWay || !quoted.starts_with('"') || quoted == "\"\"" {
            return false;
        }
        self.start();
        true
    }

    /// A piece of text, as JSON text of a string; what is none counts for nothing.
    pub fn text(&mut self, quoted: &str) {
        if self.takes(quoted) {
            self.seen.text.add(quoted.as_bytes(), self.is_kept());
            self.end_call();
            self.writer.text(&mut self.out, quoted);
        }
    }

    /// A piece of the model's thoughts, as JSON text of a string.
    pub fn reasoning(&mut self, quoted: &str) {
        if self.takes(quoted) {
            self.end_call();
            self.writer.reasoning(&mut self.out, quoted);
        }
    }

    /// A piece of the signature of the thoughts before it, as JSON text of a string.
    pub fn signature(&mut self, quoted: &str) {
        if self.takes(quoted) {
            self.writer.signature(&mut self.out, quoted);
        }
    }

    /// Thoughts that the provider has enciphered, as JSON text of a string.
    pub fn redacted(&mut self, quoted: &str) {
        if self.takes(quoted) {
            self.end_call();
            self.writer.redacted(&mut self.out, quoted);
        }
    }

    /// A piece of what the model says where it declines, as JSON text of a string.
    pub fn refusal(&mut self, quoted: &str) {
        if self.takes(quoted) {
            self.end_call();
            self.writer.refusal(&mut self.out, quoted);
        }
    }

    /// A picture.
    pub fn image(&mut self, image: Image) {
        if self.state == State::UnderWay {
            self.start();
            self.end_call();
            self.writer.image(&mut self.out, self.choice.images, image);
            self.choice.images += 1;
        }
    }

    /// A piece of what the model speaks.
    pub fn audio(&mut self, piece: Audio) {
        if self.state == State::UnderWay {
            self.start();
            self.end_call();
            if !piece.transcript.is_empty() {
                self.seen.text.add(quote(&piece.transcript).as_bytes(), self.is_kept());
            }
            self.writer.audio(&mut self.out, piece);
        }
    }

    /// A call of a tool begins.
    pub fn call(&mut self, id: &str, name: &str) {
        if self.state != State::UnderWay {
            return;
        }
        self.start();
        self.end_call();
        let index = self.choice.calls;
        self.choice.calls += 1;
        self.choice.call = Some((index, false));
        self.writer.call(&mut self.out, index, id, name);
    }

    /// Whether tools have been called.
    pub fn has_calls(&self) -> bool {
        self.choice.calls > 0
    }

    /// A piece of the arguments of the call under way, as JSON text of a string.
    pub fn arguments(&mut self, quoted: &str) {
        if self.state != State::UnderWay || !quoted.starts_with('"') || quoted == "\"\"" {
            return;
        }
        if let Some((index, any)) = &mut self.choice.call {
            *any = true;
            self.writer.arguments(&mut self.out, *index, quoted);
        }
    }

    /// The call under way, if one is, has ended. One without arguments has an empty object of them.
    pub fn end_call(&mut self) {
        if matches!(self.choice.call, Some((_, false))) {
            self.arguments(r#""{}""#);
        }
        if let Some((index, _)) = self.choice.call.take()
            && self.state == State::UnderWay
        {
            self.writer.end_call(&mut self.out, index);
        }
    }

    /// The model is done, for this reason. Only the first counts.
    pub fn finish(&mut self, finish: Finish) {
        if self.state != State::UnderWay || self.choice.finished {
            return;
        }
        self.start();
        self.end_call();
        if self.is_kept() {
            self.seen.finish_reason = Some(openai::answer_writer::finish_reason(&finish).to_owned());
        }
        self.writer.finish(&mut self.out, &finish);
        self.choice.finished = true;
    }

    /// The answer is complete: its end is told, with the tokens.
    pub fn done(&mut self) {
        if self.state != State::UnderWay {
            return;
        }
        self.start();
        self.end_call();
        if let Some(tokens) = self.tokens {
            self.seen.usage = Some(tokens.usage());
        }
        self.writer.done(&mut self.out, self.tokens);
        self.state = State::Done;
    }

    /// An error where the answer should go on; `status` is what it would be as an answer.
    pub fn fail(&mut self, message: &str, kind: &str, status: u16) {
        if self.state == State::UnderWay {
            self.writer.fail(&mut self.out, &Failure { message, kind, status });
            self.seen.failed = Some(status);
            self.state = State::Failed;
        }
    }

    /// The provider, called so, has stopped: that is an error where an answer was not over.
    pub fn close(&mut self, provider: &str) {
        let all = || self.others.iter().map(|(_, choice)| choice).chain([&self.choice]);
        if all().any(|choice| choice.finished) && all().all(|choice| choice.finished || !choice.started) {
            return self.done();
        }
        let message = format!("the answer of {provider} ended before it was complete");
        self.fail(&message, "server_error", 502);
    }

    /// Whether the text is wanted: of several answers that of the first is.
    fn is_kept(&self) -> bool {
        self.wishes.keep_text && self.index == 0
    }

    /// What is to go to the client now.
    pub fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Gives away what is known. Of an answer that broke off, the prompt's tokens may have been told, and the text
    /// is counted.
    pub fn take_seen(&mut self) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        if let (None, Some(tokens)) = (&seen.usage, self.tokens) {
            let completion = tokens.completion.max(seen.text.tokens());
            seen.usage = Some(Tokens { completion, ..tokens }.usage());
        }
        seen
    }
}

/// A text of the JSON text of a string; empty where it is none.
pub(crate) fn unquoted(quoted: &str) -> std::borrow::Cow<'_, str> {
    unquote(quoted.as_bytes()).unwrap_or_default()
}
