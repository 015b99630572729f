//! One id for all that a request causes, from the client's frame through edge and node into every line of the log (W3C Trace
//! Context, level 1): made at the edge, carried by the task that works on it, sent along as `traceparent`.
//!
//! It decides nothing: a request without one is carried out as well.

use std::fmt;
use std::time::{Duration, SystemTime};

use tracing::{Instrument as _, Span};

use crate::otlp;

/// The metadata that carries it from service to service.
pub const TRACEPARENT: &str = "traceparent";

tokio::task_local! {
    static CURRENT: Trace;
}

/// A request's id, and that of the step of it which is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    span: u64,
    sampled: bool,
}

/// As logs and people have it: 32 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(u128);

/// What a step is about: its lines have it, and their key in Kafka is the room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct About<'a> {
    /// The room.
    pub room: Option<&'a str>,
    /// A stream of it.
    pub mid: Option<&'a str>,
}

/// What a step was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request of somebody else.
    Server,
    /// What was done for it.
    Internal,
}

impl Trace {
    /// A new request's, of random numbers.
    pub fn new(id: u128, span: u64) -> Self {
        // Zero means that there is none.
        let id = id.max(1);
        Self { id, span: span.max(1), sampled: otlp::samples(id) }
    }

    /// The same request's for a further step.
    #[must_use]
    pub fn step(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// The request's id.
    pub fn id(self) -> TraceId {
        TraceId(self.id)
    }

    /// That of what this task works on.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|trace| *trace).ok()
    }

    /// Whether it is exported.
    pub fn is_sampled(self) -> bool {
        self.sampled
    }

    /// Reads what another service sent; anything else than version 00 as it is written is nobody's.
    pub fn from_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let whole = version == "00" && is_hex(id, 32) && is_hex(span, 16) && is_hex(flags, 2) && parts.next().is_none();
        let (id, span) = (u128::from_str_radix(id, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let flags = u8::from_str_radix(flags, 16).ok()?;
        (whole && id != 0 && span != 0).then_some(Self { id, span, sampled: flags & 1 == 1 })
    }

    /// As the next service reads it.
    pub fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.id, self.span, u8::from(self.sampled))
    }

    /// Works on a step of the request called `name`: lines and calls that come of it carry its ids. `parent` is the step it is part
    /// of.
    pub async fn follow<F: Future>(self, name: &'static str, kind: Kind, parent: Trace, work: F) -> F::Output {
        self.follow_in(self.span(About::default()), name, kind, parent, work).await
    }

    /// Likewise; lines that come of it say what it is about.
    pub fn follow_about<F: Future>(
        self,
        name: &'static str,
        kind: Kind,
        parent: Trace,
        about: About<'_>,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        self.follow_in(self.span(about), name, kind, parent, work)
    }

    fn span(self, About { room, mid }: About<'_>) -> Span {
        // Of the highest level, so that no `log.level` but `off` takes the ids from lines that are written.
        tracing::error_span!(
            target: "sluice",
            "request",
            trace.id = %self.id(),
            span.id = %format_args!("{:016x}", self.span),
            room,
            mid
        )
    }

    async fn follow_in<F: Future>(
        self,
        span: Span,
        name: &'static str,
        kind: Kind,
        parent: Trace,
        work: F,
    ) -> F::Output {
        let started = SystemTime::now();
        let done = CURRENT.scope(self, work.instrument(span)).await;
        if self.sampled {
            self.export(name, kind, Some(parent), started, SystemTime::now());
        }
        done
    }

    /// Works on something in a task of its own, which goes on after the request that it is done for: if it is done for one.
    pub async fn carry<F: Future>(of: Option<Self>, name: &'static str, work: F) -> F::Output {
        match of {
            Some(trace) => trace.step(rand::random()).follow(name, Kind::Internal, trace, work).await,
            None => work.await,
        }
    }

    /// Likewise; lines that come of it say what it is about, whether it is done for a request or not.
    pub fn carry_about<F: Future>(
        of: Option<Self>,
        name: &'static str,
        about: About<'_>,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let traced = of.map(|trace| (trace, trace.step(rand::random())));
        let span = if let Some((_, step)) = traced {
            step.span(about)
        } else {
            tracing::error_span!(target: "sluice", "about", room = about.room, mid = about.mid)
        };
        async move {
            match traced {
                Some((trace, step)) => step.follow_in(span, name, Kind::Internal, trace, work).await,
                None => work.instrument(span).await,
            }
        }
    }

    /// Tells the collector, if there is one, of the request as a whole, which took so long until now.
    pub fn export_whole(self, name: &'static str, took: Duration) {
        if self.sampled {
            let now = SystemTime::now();
            self.export(name, Kind::Server, None, now.checked_sub(took).unwrap_or(now), now);
        }
    }

    fn export(self, name: &'static str, kind: Kind, parent: Option<Trace>, started: SystemTime, ended: SystemTime) {
        otlp::export(otlp::Step {
            id: self.id,
            span: self.span,
            parent: parent.map(|it| it.span),
            name,
            kind,
            started,
            ended,
        });
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_read_back() {
        let trace = Trace { id: 0x1234, span: 7, sampled: true };
        assert_eq!(trace.traceparent(), "00-00000000000000000000000000001234-0000000000000007-01");
        assert_eq!(Trace::from_traceparent(&trace.traceparent()), Some(trace));
        assert_eq!(trace.id().to_string(), "00000000000000000000000000001234");
    }

    #[test]
    fn what_is_no_traceparent_is_nobodys() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        assert!(Trace::from_traceparent(good).is_some_and(|trace| !trace.is_sampled()));
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319\u{e9}-b7ad6b7169203331-00",
        ] {
            assert_eq!(Trace::from_traceparent(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_task_knows_what_it_works_on() {
        let whole = Trace::new(5, 6);
        assert_eq!(Trace::current(), None);
        let seen = whole.step(9).follow("test", Kind::Internal, whole, async { Trace::current() }).await;
        assert_eq!(seen, Some(Trace { span: 9, ..whole }));
        assert_eq!(Trace::current(), None);
    }

    #[tokio::test]
    async fn what_goes_on_after_a_request_knows_whose_it_is() {
        let whole = Trace::new(5, 6);
        let seen = Trace::carry(Some(whole), "test", async { Trace::current() }).await;
        assert_eq!(seen.map(Trace::id), Some(whole.id()));
        assert_eq!(Trace::carry(None, "test", async { Trace::current() }).await, None);
    }
}
