//! One WebSocket as its session sees it: text in, frames out through a bounded queue. Reading goes on while writing waits,
//! and the other way round, in the socket's one task.

use std::collections::VecDeque;
use std::error::Error as _;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Error;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{Sink, SinkExt as _, Stream};
use metrics::Histogram;
use proto::signalling::MAX_INBOUND_BYTES;
use tokio_tungstenite::tungstenite;

use crate::metrics::{EdgeMetrics, QueuedBytes};
use crate::sockets::Reset;

/// What a waiting frame costs beside its bytes: its place in the queue, which grows by doubling, and its allocation's.
const FRAME_OVERHEAD: usize = 160;
/// Pings that may wait beside the frames: past it the client is about to be let go anyway.
const MAX_PINGS: usize = 16;
/// How long a closing handshake may take before the connection is just dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What came from the client.
#[derive(Debug)]
pub(crate) enum Incoming {
    Text(Utf8Bytes),
    /// A frame of this size without a meaning to us (ping, pong, binary): a sign of life.
    SignOfLife(usize),
    /// All of a [`Pipe::push_rest`] has been written.
    RestSent,
    /// A message longer than the WebSocket library takes began: it reads nothing more, but writes.
    TooBig,
    /// No more will come.
    Closed,
}

/// The client does not take its frames fast enough.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// What waits to be written.
enum Outgoing {
    Message(Message),
    /// A frame of which it is measured how long it took. Boxed: it is rare, and its place would be kept for every frame.
    Timed(Box<Timed>),
    /// Frames that are made when they are written.
    Rest(Box<dyn Iterator<Item = Utf8Bytes> + Send>),
    /// The place of more of such frames, which are still to come.
    Held,
}

/// A frame, and when that happened which it tells.
struct Timed {
    frame: Utf8Bytes,
    since: Instant,
}

/// What all pipes of an edge measure together.
#[derive(Clone)]
pub(crate) struct Measures {
    pub(crate) queued: QueuedBytes,
    /// Of [`Pipe::push_timed`].
    pub(crate) notification: Histogram,
}

impl Measures {
    pub(crate) fn new(metrics: &EdgeMetrics) -> Self {
        Self { queued: QueuedBytes::default(), notification: metrics.notification.clone() }
    }
}

/// The bytes that wait for a client, among those of all.
struct Queued {
    bytes: usize,
    all: QueuedBytes,
}

impl Queued {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    fn remove(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.all.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A WebSocket with its outbound queue.
pub(crate) struct Pipe<S = WebSocket> {
    socket: S,
    queue: VecDeque<Outgoing>,
    /// What waits for a client that reads slower than its rooms talk, and how much of it may.
    queued: Queued,
    most_bytes: usize,
    notification: Histogram,
    unflushed: bool,
    has_grown: bool,
    /// Nothing more can be read, though the client may be there.
    is_deaf: bool,
    reset: Reset,
}

impl<S> Pipe<S>
where
    S: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin,
{
    /// `most_bytes`: how many bytes may wait for the client, with what each frame costs beside its own.
    /// `reset`: of the connection under the socket.
    pub(crate) fn new(socket: S, most_bytes: usize, reset: Reset, measures: &Measures) -> Self {
        let Measures { queued, notification } = measures.clone();
        Self {
            socket,
            queue: VecDeque::new(),
            queued: Queued { bytes: 0, all: queued },
            most_bytes,
            notification,
            unflushed: false,
            has_grown: false,
            is_deaf: false,
            reset,
        }
    }

    /// Whether a message over the contract's limit came in: the WebSocket library keeps a read buffer of its size until the
    /// connection ends.
    pub(crate) fn has_grown(&self) -> bool {
        self.has_grown
    }

    /// Queues a text frame.
    pub(crate) fn push(&mut self, frame: Utf8Bytes) -> Result<(), TooSlow> {
        self.make_room(&frame)?;
        self.queue.push_back(Outgoing::Message(Message::Text(frame)));
        Ok(())
    }

    /// The same, and measures how long after `since` the socket has it.
    pub(crate) fn push_timed(&mut self, frame: Utf8Bytes, since: Instant) -> Result<(), TooSlow> {
        self.make_room(&frame)?;
        self.queue.push_back(Outgoing::Timed(Box::new(Timed { frame, since })));
        Ok(())
    }

    fn make_room(&mut self, frame: &Utf8Bytes) -> Result<(), TooSlow> {
        let bytes = frame.len() + FRAME_OVERHEAD;
        if self.queued.bytes + bytes > self.most_bytes {
            return Err(TooSlow);
        }
        self.queued.add(bytes);
        Ok(())
    }

    /// Queues frames that are made one by one as the client takes them, however many. [`Incoming::RestSent`] says when the last of
    /// them is written; how many such may wait is the caller's to bound.
    pub(crate) fn push_rest(&mut self, rest: impl Iterator<Item = Utf8Bytes> + Send + 'static) {
        self.queue.push_back(Outgoing::Rest(Box::new(rest)));
    }

    /// After [`Incoming::RestSent`]: that was not all of it, and nothing that waits is written before [`Self::go_on`].
    pub(crate) fn hold(&mut self) {
        self.queue.push_front(Outgoing::Held);
    }

    /// The further frames of what is held.
    pub(crate) fn go_on(&mut self, rest: impl Iterator<Item = Utf8Bytes> + Send + 'static) {
        if let Some(held) = self.queue.iter_mut().find(|waiting| matches!(waiting, Outgoing::Held)) {
            *held = Outgoing::Rest(Box::new(rest));
        }
    }

    /// What waits behind a rest that will not be whole makes no sense without it.
    pub(crate) fn drop_what_follows_rest(&mut self) {
        let is_rest = |waiting: &Outgoing| matches!(waiting, Outgoing::Rest(_) | Outgoing::Held);
        if let Some(at) = self.queue.iter().position(is_rest) {
            self.queue.truncate(at + 1);
            self.queue.retain(|waiting| !matches!(waiting, Outgoing::Held));
        }
    }

    /// Sends a ping before all that waits: a client that is long in taking it shows that it is alive. Unless so much waits that it
    /// is about to be let go anyway.
    pub(crate) fn push_ping(&mut self) {
        let pings = self.queue.iter().take_while(|it| matches!(it, Outgoing::Message(Message::Ping(_)))).count();
        if pings < MAX_PINGS {
            self.queue.push_front(Outgoing::Message(Message::Ping(axum::body::Bytes::new())));
        }
    }

    /// Writes what is queued, as far as the client takes it, until something comes in. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_next(cx, true)).await
    }

    /// The same, but leaves what comes in where it is.
    pub(crate) async fn next_unread(&mut self) -> Incoming {
        poll_fn(|cx| self.poll_next(cx, false)).await
    }

    /// Sends what is queued, then the close frame, and waits for the client's, all within [`CLOSE_TIMEOUT`]. Where none can be
    /// read, the client is given that time to read ours: a socket with unread bytes in it is reset when it is dropped.
    pub(crate) async fn close(mut self, code: u16, reason: &str) {
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        self.queue.push_back(Outgoing::Message(close));
        let handshake = async { while !matches!(self.next().await, Incoming::Closed) {} };
        let handshake = tokio::time::timeout(CLOSE_TIMEOUT, handshake).await;
        self.end(handshake.is_ok());
    }

    /// After [`Incoming::Closed`]: sends the close frame that answers the client's (RFC 6455, section 5.5.1), which the library
    /// has ready. Whatever else is queued, the client does not wait for it any more.
    pub(crate) async fn finish(mut self) {
        // A connection that is gone without a close frame fails at once.
        let flushed = tokio::time::timeout(CLOSE_TIMEOUT, self.socket.flush()).await;
        self.end(flushed.is_ok());
    }

    /// The connection is gone either way. A client that did not answer `in_time` misses the rest: the system would keep it for
    /// one that takes nothing for another minute.
    fn end(self, in_time: bool) {
        if !in_time {
            self.reset.want();
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, reads: bool) -> Poll<Incoming> {
        match self.poll_write(cx) {
            Poll::Ready(Ok(Written::Rest)) => return Poll::Ready(Incoming::RestSent),
            Poll::Ready(Err(_)) => return Poll::Ready(Incoming::Closed),
            Poll::Ready(Ok(Written::All)) | Poll::Pending => {}
        }
        if self.is_deaf || !reads {
            return Poll::Pending;
        }
        let read = ready!(Pin::new(&mut self.socket).poll_next(cx));
        self.has_grown |= match &read {
            Some(Ok(Message::Text(text))) => text.len() > MAX_INBOUND_BYTES,
            Some(Ok(Message::Binary(bytes))) => bytes.len() > MAX_INBOUND_BYTES,
            _ => false,
        };
        Poll::Ready(match read {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes))) => {
                Incoming::SignOfLife(bytes.len())
            }
            Some(Err(error)) if is_capacity(&error) => {
                self.is_deaf = true;
                Incoming::TooBig
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => Incoming::Closed,
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<Written, Error>> {
        while self.queue.front().is_some_and(|front| !matches!(front, Outgoing::Held)) {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            let Some((message, since)) = self.pop() else { return Poll::Ready(Ok(Written::Rest)) };
            Pin::new(&mut self.socket).start_send(message)?;
            if let Some(since) = since {
                self.notification.record(since.elapsed().as_secs_f64());
            }
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(Written::All))
    }

    /// The next message of a queue that is not empty, and since when it is timed, if it is; `None`: a rest has just ended.
    fn pop(&mut self) -> Option<(Message, Option<Instant>)> {
        if let Some(Outgoing::Rest(rest)) = self.queue.front_mut()
            && let Some(frame) = rest.next()
        {
            return Some((Message::Text(frame), None));
        }
        let (message, since) = match self.queue.pop_front()? {
            Outgoing::Message(message) => (message, None),
            Outgoing::Timed(timed) => (Message::Text(timed.frame), Some(timed.since)),
            Outgoing::Rest(_) | Outgoing::Held => return None,
        };
        if let Message::Text(text) = &message {
            self.queued.remove(text.len() + FRAME_OVERHEAD);
        }
        Some((message, since))
    }
}

/// Whether the library gave up over a message's length.
fn is_capacity(error: &Error) -> bool {
    matches!(error.source().and_then(|cause| cause.downcast_ref()), Some(tungstenite::Error::Capacity(_)))
}

/// How far writing has come.
enum Written {
    /// To the end of a [`Pipe::push_rest`]; more may wait.
    Rest,
    All,
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt as _;

    use super::*;

    /// Bytes that may wait.
    const MOST: usize = 64 * 1024;

    /// A socket whose writing can be stopped.
    #[derive(Default, Clone)]
    struct Wire {
        open: bool,
        written: Arc<Mutex<Vec<Message>>>,
        incoming: VecDeque<Message>,
    }

    impl Stream for Wire {
        type Item = Result<Message, Error>;
        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.incoming.pop_front().map_or(Poll::Pending, |message| Poll::Ready(Some(Ok(message))))
        }
    }

    impl Sink<Message> for Wire {
        type Error = Error;
        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            if self.open { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
        fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
            self.written.lock().expect("not poisoned").push(message);
            Ok(())
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    fn measures() -> Measures {
        Measures { queued: QueuedBytes::default(), notification: Histogram::noop() }
    }

    fn over(wire: Wire) -> Pipe<Wire> {
        Pipe::new(wire, MOST, Reset::default(), &measures())
    }

    #[tokio::test]
    async fn reading_goes_on_while_the_client_takes_nothing() {
        let mut pipe = over(Wire { incoming: [Message::Text("in".into())].into(), ..Wire::default() });
        pipe.push("out".into()).expect("room");
        assert!(matches!(pipe.next().await, Incoming::Text(text) if text.as_str() == "in"));
        assert!(pipe.socket.written.lock().expect("not poisoned").is_empty());
    }

    #[tokio::test]
    async fn writing_goes_on_while_nothing_is_read() {
        let mut pipe = over(Wire { open: true, incoming: [Message::Text("in".into())].into(), ..Wire::default() });
        pipe.push("out".into()).expect("room");
        assert!(pipe.next_unread().now_or_never().is_none());
        assert_eq!(written(&pipe.socket.written), ["out"]);
        assert!(matches!(pipe.next().await, Incoming::Text(_)), "it was left where it was");
    }

    #[tokio::test]
    async fn what_is_queued_is_written_in_order_before_the_close() {
        let wire = Wire { open: true, incoming: [Message::Close(None)].into(), ..Wire::default() };
        let written = Arc::clone(&wire.written);
        let mut pipe = over(wire);
        pipe.push("a".into()).expect("room");
        pipe.push("b".into()).expect("room");
        pipe.close(4000, "why").await;
        let written = written.lock().expect("not poisoned");
        assert!(matches!(&written[..], [Message::Text(a), Message::Text(b), Message::Close(Some(close))]
            if a.as_str() == "a" && b.as_str() == "b" && close.code == 4000 && close.reason.as_str() == "why"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_client_that_answers_no_close_is_forgotten() {
        let answers = || [Message::Close(None)].into();
        for (open, incoming, is_forgotten) in
            [(true, answers(), false), (true, VecDeque::new(), true), (false, VecDeque::new(), true)]
        {
            let reset = Reset::default();
            let wire = Wire { open, incoming, ..Wire::default() };
            Pipe::new(wire, MOST, reset.clone(), &measures()).close(1013, "too slow").await;
            assert_eq!(reset.is_wanted(), is_forgotten);
        }
    }

    /// What was written, in short.
    fn written(wire: &Mutex<Vec<Message>>) -> Vec<String> {
        let short = |message: &Message| match message {
            Message::Text(text) => text.to_string(),
            Message::Ping(_) => "ping".to_owned(),
            Message::Close(_) => "close".to_owned(),
            other => panic!("{other:?}"),
        };
        wire.lock().expect("not poisoned").iter().map(short).collect()
    }

    #[tokio::test]
    async fn a_rest_of_any_length_is_made_as_the_client_takes_it_and_later_frames_follow_it() {
        let wire = Wire { incoming: [Message::Text("in".into())].into(), ..Wire::default() };
        let seen = Arc::clone(&wire.written);
        let mut pipe = over(wire);
        let made = Arc::new(Mutex::new(0));
        let count = Arc::clone(&made);
        let length = 20_000;
        pipe.push("first".into()).expect("room");
        pipe.push_rest((0..length).map(move |number| {
            *count.lock().expect("not poisoned") += 1;
            number.to_string().into()
        }));
        pipe.push("last".into()).expect("room");
        assert!(matches!(pipe.next().await, Incoming::Text(_)));
        assert_eq!(*made.lock().expect("not poisoned"), 0, "the client takes nothing");
        pipe.push_ping();
        pipe.socket.open = true;
        assert!(matches!(pipe.next().await, Incoming::RestSent));
        let before: Vec<String> = ["ping", "first"].map(str::to_owned).into();
        assert_eq!(written(&seen), [before, (0..length).map(|number| number.to_string()).collect()].concat());
        pipe.socket.incoming.push_back(Message::Close(None));
        assert!(matches!(pipe.next().await, Incoming::Closed));
        assert_eq!(written(&seen).last().map(String::as_str), Some("last"));
    }

    /// One whose client takes everything, and what it has taken.
    fn open() -> (Pipe<Wire>, Arc<Mutex<Vec<Message>>>) {
        let wire = Wire { open: true, ..Wire::default() };
        let written = Arc::clone(&wire.written);
        (over(wire), written)
    }

    fn rest(frames: &'static [&'static str]) -> impl Iterator<Item = Utf8Bytes> + Send + use<> {
        frames.iter().map(|frame| Utf8Bytes::from_static(frame))
    }

    #[tokio::test]
    async fn what_is_held_goes_on_before_all_that_waits() {
        let (mut pipe, seen) = open();
        pipe.push_rest(rest(&["one", "two"]));
        pipe.push("after".into()).expect("room");
        assert!(matches!(pipe.next().await, Incoming::RestSent));
        pipe.hold();
        pipe.push_ping();
        assert!(pipe.next().now_or_never().is_none(), "nothing but a ping overtakes it");
        pipe.go_on(rest(&["three"]));
        assert!(matches!(pipe.next().await, Incoming::RestSent));
        assert!(pipe.next().now_or_never().is_none());
        assert_eq!(written(&seen), ["one", "two", "ping", "three", "after"]);
    }

    #[tokio::test]
    async fn nothing_is_said_behind_a_rest_that_will_not_be_whole() {
        for is_begun in [false, true] {
            let (mut pipe, seen) = open();
            pipe.push("before".into()).expect("room");
            pipe.push_rest(rest(&["one", "two"]));
            pipe.push("after".into()).expect("room");
            if is_begun {
                assert!(matches!(pipe.next().await, Incoming::RestSent));
                pipe.hold();
            }
            pipe.drop_what_follows_rest();
            pipe.socket.incoming.push_back(Message::Close(None));
            pipe.close(1012, "rejoin").await;
            assert_eq!(written(&seen), ["before", "one", "two", "close"]);
        }
    }

    #[test]
    fn the_queue_is_bounded_and_small_frames_count_for_more_than_their_bytes() {
        let mut pipe = over(Wire::default());
        let few = (0..MOST).find(|_| pipe.push("x".into()).is_err()).expect("bounded");
        assert_eq!(few, MOST / (1 + FRAME_OVERHEAD));
        let mut pipe = over(Wire::default());
        let big: Utf8Bytes = "x".repeat(MOST / 4 - FRAME_OVERHEAD).into();
        for _ in 0..4 {
            pipe.push(big.clone()).expect("room");
        }
        assert_eq!(pipe.push("x".into()), Err(TooSlow));
    }

    #[tokio::test]
    async fn what_the_client_has_taken_makes_room() {
        let measures = measures();
        let mut pipe = Pipe::new(Wire { open: true, ..Wire::default() }, 1_000, Reset::default(), &measures);
        for _ in 0..100 {
            pipe.push("x".repeat(700).into()).expect("room");
            assert!(pipe.next().now_or_never().is_none());
        }
        assert_eq!((pipe.queued.bytes, measures.queued.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn what_waits_is_counted_for_all_clients_together_until_they_take_it_or_go() {
        let measures = measures();
        let pipe = |open| Pipe::new(Wire { open, ..Wire::default() }, MOST, Reset::default(), &measures);
        let (mut quick, mut slow) = (pipe(true), pipe(false));
        let all = || measures.queued.load(Ordering::Relaxed);
        quick.push_timed("abcd".into(), Instant::now()).expect("room");
        slow.push("abcd".into()).expect("room");
        assert_eq!(all(), 2 * (4 + FRAME_OVERHEAD));
        assert!(quick.next().now_or_never().is_none());
        assert_eq!(all(), 4 + FRAME_OVERHEAD);
        assert_eq!(written(&quick.socket.written), ["abcd"]);
        drop(slow);
        assert_eq!(all(), 0);
    }
}
