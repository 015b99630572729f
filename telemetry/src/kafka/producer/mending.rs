//! The thread that hears of deliveries, and replaces a client that has failed for good. An idempotent producer does when a broker refuses
//! it an id (its rights were taken away), or has forgotten what it took of it: it sends nothing any more then, and cannot be mended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer as _;

use super::{Client, Shared, State, end, put, start};
use crate::kafka::context::Rescued;
use crate::kafka::{Refused, TARGET};
use crate::metrics::KAFKA_PRODUCERS_REPLACED;

/// How late it hears of deliveries, which keep their room in the queue until then, and of anything else.
const REST: Duration = Duration::from_millis(50);

/// How long brokers have to answer what a failed client has sent before. What they have not, may be lost.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Mean pause before the next client, at first, and at most: what refused one client will refuse the next for a while.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Until the producer is closed.
pub(super) fn run(shared: &Shared, mut client: Arc<Client>) {
    let (mut pause, mut delivered) = (FIRST_PAUSE, 0);
    while !shared.is_ending() {
        hear(&client);
        let Some((code, reason)) = client.client().fatal_error() else {
            shared.ends.wait(Instant::now() + REST);
            continue;
        };
        if !shared.begin_mending(&client) {
            return;
        }
        // Not paced: there is one for each client, and a pause between any two.
        tracing::error!(target: TARGET, error = %code, "Kafka's client has failed and is replaced: {reason}");
        hear_the_last(shared, &client);
        // It was of use.
        if shared.delivered() > delivered {
            (pause, delivered) = (FIRST_PAUSE, shared.delivered());
        }
        let Some(next) = shared.succeed(&mut pause) else { return };
        end_aside(std::mem::replace(&mut client, next));
    }
}

/// Hears all that there is to hear. It never waits in librdkafka, where the last millisecond of each wait is spent going round in
/// circles, because whoever calls it there rounds down: a fiftieth of a core for a thread that does nothing.
fn hear(client: &Client) {
    let heard = || client.context().heard();
    let mut before = heard();
    loop {
        client.poll(Duration::ZERO);
        let after = heard();
        if after == before {
            return;
        }
        before = after;
    }
}

fn hear_the_last(shared: &Shared, client: &Client) {
    let until = Instant::now() + LAST_ANSWERS;
    while client.in_flight_count() > 0 && Instant::now() < until && !shared.is_ending() {
        hear(client);
        shared.ends.wait(Instant::now() + REST);
    }
    hear(client);
    client.context().disinherit();
}

/// Its threads may take long to end, which is not waited for.
fn end_aside(client: Arc<Client>) {
    end(client, None, Instant::now());
}

impl Shared {
    fn is_ending(&self) -> bool {
        self.ends.is_set()
    }

    fn delivered(&self) -> u64 {
        self.counts.delivered.load(Ordering::Relaxed)
    }

    /// `false`: it has been closed.
    fn begin_mending(&self, client: &Arc<Client>) -> bool {
        let mut state = self.state_mut();
        let is_open = matches!(*state, State::Open(_));
        if is_open {
            *state = State::Mending(Arc::clone(client));
        }
        is_open
    }

    /// The next client, with all that the one before has not sent; `None`: it has been closed meanwhile.
    fn succeed(&self, pause: &mut Duration) -> Option<Arc<Client>> {
        loop {
            self.wait(pause.mul_f64(rand::random_range(0.5..1.5)));
            *pause = (*pause * 2).min(LONGEST_PAUSE);
            if self.is_ending() {
                return None;
            }
            match start(&self.config, &self.counts) {
                Ok(client) => {
                    let client = Arc::new(client);
                    let left = self.hand_over(&client);
                    if left.is_empty() {
                        return self.open(client);
                    }
                    // It has failed while it was given them: what it took comes back first. Not paced, as above.
                    let (error, reason) = client.client().fatal_error().unzip();
                    let (error, waiting) = (error.map(|code| code.to_string()), left.len());
                    tracing::error!(target: TARGET, error, reason, waiting, "Kafka's next client has not taken all that waits, and is replaced");
                    hear_the_last(self, &client);
                    self.counts.keep(left);
                    end_aside(client);
                }
                Err(error) => tracing::error!(target: TARGET, %error, "there is no client for Kafka"),
            }
        }
    }

    /// Gives it what was rescued, which is sent before all that comes from now on. What it does not take is left.
    fn hand_over(&self, client: &Client) -> Vec<Rescued> {
        let mut rescued = self.counts.take_rescued().into_iter();
        while let Some(message) = rescued.next() {
            let Rescued { topic, key, payload, kind } = &message;
            match put(client, topic, key, payload, *kind) {
                Ok(()) => {}
                Err(Refused::Never) => self.counts.give_up(&message, false),
                Err(Refused::Full) => return std::iter::once(message).chain(rescued).collect(),
            }
        }
        Vec::new()
    }

    fn open(&self, client: Arc<Client>) -> Option<Arc<Client>> {
        let mut state = self.state_mut();
        if matches!(*state, State::Closed) {
            drop(state);
            client.context().disinherit();
            return None;
        }
        *state = State::Open(Arc::clone(&client));
        KAFKA_PRODUCERS_REPLACED.counter(&[]).increment(1);
        Some(client)
    }

    fn wait(&self, pause: Duration) {
        self.ends.wait(Instant::now() + pause);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rdkafka::producer::PurgeConfig;

    use super::*;
    use crate::kafka::context::Kind;
    use crate::kafka::context::tests::Said;
    use crate::kafka::{KafkaSettings, Producer};

    /// One whose clients take seven lines, for nobody listens there and an eighth of the eight is for events; ten were rescued.
    fn producer() -> Producer {
        let mut settings = KafkaSettings { brokers: vec!["127.0.0.1:1".to_owned()], ..KafkaSettings::default() };
        settings.properties.set("queue.buffering.max.messages", "8");
        let producer = Producer::connect(&settings, "test").expect("it starts");
        let message = |number: u8| Rescued {
            topic: "sluice.logs".to_owned(),
            key: b"room".to_vec(),
            payload: vec![number],
            kind: Kind::Line,
        };
        producer.0.counts.keep((0..10).map(message));
        producer
    }

    #[test]
    fn a_next_client_that_does_not_take_what_waits_is_told_of() {
        let (producer, said) = (producer(), Said::default());
        let subscriber = said.subscriber();
        thread::scope(|scope| {
            let shared = &producer.0;
            let succeeding = scope.spawn(move || {
                tracing::subscriber::with_default(subscriber, || {
                    shared.succeed(&mut Duration::from_millis(1)).is_some()
                })
            });
            let give_up = Instant::now() + Duration::from_secs(20);
            while !said.text().contains("has not taken all that waits") && Instant::now() < give_up {
                thread::sleep(Duration::from_millis(10));
            }
            producer.close(Instant::now() + Duration::from_millis(100));
            assert!(!succeeding.join().expect("no panic"), "it was closed");
        });
        let said = said.text();
        assert!(said.contains("ERROR") && said.contains("waiting=3"), "{said}");
    }

    #[test]
    fn what_the_next_client_does_not_take_is_left_in_order() {
        let producer = producer();
        let shared = &producer.0;
        let client = start(&shared.config, &shared.counts).expect("it starts");
        let left: Vec<u8> = shared.hand_over(&client).into_iter().flat_map(|message| message.payload).collect();
        assert_eq!(left, [7, 8, 9]);
        // What was taken comes back in its order, too.
        client.purge(PurgeConfig::default().queue().inflight());
        hear_the_last(shared, &client);
        let taken: Vec<u8> = shared.counts.take_rescued().into_iter().flat_map(|message| message.payload).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 5, 6]);
        producer.close(Instant::now() + Duration::from_millis(100));
    }
}
