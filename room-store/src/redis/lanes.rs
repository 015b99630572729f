//! A server's connections. Over each go many calls at once, one after the other and answered in that order; so few of them carry
//! much, also where a reply takes long. What the pool hands out is not a connection but a place on one: that bounds the calls on
//! their way.
//!
//! A connection that ended, or on which a call was not answered in time, is replaced; the attempt is one for all who wait for it,
//! and goes on when they give up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{self, Metrics, Object, Pool, PoolConfig, QueueMode, RecycleError, RecycleResult, Timeouts};
use deadpool_redis::redis::{PushInfo, PushKind, aio::MultiplexedConnection};
use tokio::time::Instant;

use super::{
    connector::{ConnectError, Connector},
    flight::Flight,
};

/// Calls on their way over one connection. More: a slow server is waited for by more calls, each of which holds its request;
/// less: a distant one carries less.
const PLACES: usize = 64;

/// How long to let a server be that could not be reached: this long, and up to as long again.
const BACK_OFF: Duration = Duration::from_millis(50);

/// A place on a connection.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) connection: MultiplexedConnection,
    ended: Arc<AtomicBool>,
}

impl Place {
    /// The connection is not to be used any more.
    pub(super) fn give_up(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Failed {
    error: ConnectError,
    again: Instant,
}

/// Makes places.
pub(super) struct Lanes {
    connector: Arc<Connector>,
    flights: Vec<Flight<Result<Place, Failed>>>,
    next: AtomicUsize,
}

/// A pool of places.
pub(super) type Places = Pool<Lanes>;

/// So many connections to a server, made when they are needed.
pub(super) fn places(connector: Arc<Connector>, connections: usize) -> Places {
    let flights = (0..connections).map(|_| Flight::default()).collect();
    let manager = Lanes { connector, flights, next: AtomicUsize::new(0) };
    let most = connections.saturating_mul(PLACES);
    let config = PoolConfig { max_size: most, timeouts: Timeouts::default(), queue_mode: QueueMode::Fifo };
    Pool::builder(manager).config(config).build().expect("invariant: no time-out is set that needs a runtime")
}

/// A place, as soon as there is one.
pub(super) async fn take(places: &Places) -> Result<Object<Lanes>, ConnectError> {
    places.get().await.map_err(|error| match error {
        managed::PoolError::Backend(error) => error,
        _ => ConnectError::TimedOut,
    })
}

impl managed::Manager for Lanes {
    type Type = Place;
    type Error = ConnectError;

    async fn create(&self) -> Result<Place, ConnectError> {
        let lane = &self.flights[self.next.fetch_add(1, Ordering::Relaxed) % self.flights.len()];
        loop {
            let of_use = |outcome: &Result<Place, Failed>| match outcome {
                Ok(place) => !place.has_ended(),
                Err(failed) => Instant::now() < failed.again,
            };
            let attempt = lane.attempt(of_use, || connect(Arc::clone(&self.connector)));
            match attempt.await {
                Some(outcome) if of_use(&outcome) => return outcome.map_err(|failed| failed.error),
                Some(_) => {}
                None => return Err(ConnectError::TimedOut),
            }
        }
    }

    /// Without a word to the server: a call that finds the connection ended is known to have done nothing only then, and most find
    /// it well.
    async fn recycle(&self, place: &mut Place, _: &Metrics) -> RecycleResult<ConnectError> {
        if place.has_ended() { Err(RecycleError::message("the connection has ended")) } else { Ok(()) }
    }
}

async fn connect(connector: Arc<Connector>) -> Result<Place, Failed> {
    let ended = Arc::new(AtomicBool::new(false));
    let on_end = Arc::clone(&ended);
    let on_push = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            on_end.store(true, Ordering::Relaxed);
        }
    };
    match connector.connect(Arc::new(on_push)).await {
        Ok(connection) => Ok(Place { connection, ended }),
        Err(error) => Err(Failed { error, again: Instant::now() + BACK_OFF.mul_f64(1.0 + rand::random::<f64>()) }),
    }
}
