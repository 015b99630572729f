//! A client, our endpoint, and a network between them that loses, duplicates, delays and reorders by a seed.

use super::*;

/// What the network does to each datagram, both ways.
#[derive(Clone, Copy, Default)]
pub(super) struct Weather {
    pub(super) loss_percent: u64,
    pub(super) duplication_percent: u64,
    /// Delays are between 10 ms and this much more: datagrams overtake each other.
    pub(super) jitter_ms: u64,
}

pub(super) struct Call<C> {
    pub(super) client: C,
    pub(super) server: DimplEndpoint,
    pub(super) now: Instant,
    pub(super) connected: Option<(SrtpProfile, Vec<u8>)>,
    pub(super) end: Option<DtlsEnd>,
    /// Every datagram that was ever sent to the server, for tests that send it again, bent.
    pub(super) sent_to_server: Vec<Vec<u8>>,
    weather: Weather,
    random: u64,
    in_flight: Vec<(Instant, bool, Vec<u8>)>,
    server_timeout: Option<Instant>,
}

impl<C: Client> Call<C> {
    pub(super) fn new(start: Instant, client: C, weather: Weather, seed: u64) -> Self {
        let server = server_identity().accept(start, client.fingerprint());
        Self::with_server(start, client, server, weather, seed)
    }

    pub(super) fn with_server(start: Instant, client: C, server: DimplEndpoint, weather: Weather, seed: u64) -> Self {
        Self {
            client,
            server,
            now: start,
            connected: None,
            end: None,
            sent_to_server: Vec::new(),
            weather,
            random: seed.wrapping_mul(2).wrapping_add(1),
            in_flight: Vec::new(),
            server_timeout: None,
        }
    }

    /// Lets time pass until both have keys, or the server gives up; or for this long.
    pub(super) fn run(&mut self, at_most: Duration) {
        let deadline = self.now + at_most;
        self.drain();
        while !(self.is_complete() || self.end.is_some()) && self.step(deadline) {}
    }

    pub(super) fn is_complete(&self) -> bool {
        let Some((profile, keys)) = &self.connected else { return false };
        let theirs = self.client.keys(*profile);
        assert!(theirs.is_none() || theirs.as_ref() == Some(keys), "both ends have the same keys");
        theirs.is_some()
    }

    /// One event; false if there is none before the deadline.
    pub(super) fn step(&mut self, deadline: Instant) -> bool {
        let arrival = self.in_flight.iter().map(|(at, ..)| *at).min();
        let times = [arrival, self.server_timeout, self.client.poll_timeout(self.now)];
        let Some(next) = times.into_iter().flatten().min().filter(|next| *next <= deadline) else {
            self.now = deadline;
            return false;
        };
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let first = self.in_flight.iter().position(|(at, ..)| *at == next).expect("it was just found");
            let (_, to_server, datagram) = self.in_flight.swap_remove(first);
            self.deliver(to_server, &datagram);
        } else if self.server_timeout == Some(next) {
            self.server.handle_timeout(self.now);
        } else {
            self.client.handle_timeout(self.now);
        }
        self.drain();
        true
    }

    fn deliver(&mut self, to_server: bool, datagram: &[u8]) {
        if to_server {
            self.sent_to_server.push(datagram.to_vec());
            // A refusal is no news: duplicates are refused, too.
            let _ = self.server.handle_datagram(self.now, datagram);
        } else {
            self.client.handle_datagram(self.now, datagram);
        }
    }

    /// Takes what both have to say.
    pub(super) fn drain(&mut self) {
        let mut buf = [0; MAX_DATAGRAM];
        loop {
            match self.server.poll(&mut buf) {
                DtlsOutput::Datagram(len) => self.send(false, buf[..len].to_vec()),
                DtlsOutput::Connected { profile, keying_material } => {
                    assert!(self.connected.is_none(), "keys come once");
                    self.connected = Some((profile, keying_material.to_vec()));
                }
                DtlsOutput::Closed(end) => {
                    assert!(self.end.is_none(), "the end comes once");
                    self.end = Some(end);
                    self.server_timeout = None;
                    break;
                }
                DtlsOutput::Idle { timeout } => {
                    self.server_timeout = timeout;
                    break;
                }
            }
        }
        while let Some(datagram) = self.client.poll_datagram(self.now) {
            self.send(true, datagram);
        }
    }

    fn send(&mut self, to_server: bool, datagram: Vec<u8>) {
        if self.percent() < self.weather.loss_percent {
            return;
        }
        if self.percent() < self.weather.duplication_percent {
            self.launch(to_server, datagram.clone());
        }
        self.launch(to_server, datagram);
    }

    fn launch(&mut self, to_server: bool, datagram: Vec<u8>) {
        let jitter = if self.weather.jitter_ms == 0 { 0 } else { self.random() % (self.weather.jitter_ms * 1_000) };
        self.in_flight.push((self.now + Duration::from_micros(10_000 + jitter), to_server, datagram));
    }

    fn percent(&mut self) -> u64 {
        self.random() % 100
    }

    /// splitmix64
    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.random;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
