//! What a shard counts. Plain integers: the shell copies them out between two rounds.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals since the shard started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name, in the order of declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Media packets received and accepted.
    packets_received,
    /// Their bytes as they came from the network.
    bytes_received,
    /// Media packets sealed towards subscribers, retransmissions not counted.
    packets_sent,
    /// Their bytes as they go to the network.
    bytes_sent,
    /// Packets sent again on a subscriber's request.
    packets_retransmitted,
    /// Packets that a subscriber asked for and that were no longer, or not yet, there.
    retransmissions_missed,
    /// Packets lent to a sibling a second time, because the first was lost between the two.
    packets_lent_again,
    /// Packets recovered from publishers' retransmissions.
    packets_recovered,
    /// Datagrams of no known protocol, too short or too long.
    dropped_malformed,
    /// RTP, RTCP or DTLS from an address that proved nothing.
    dropped_unknown_address,
    /// Connectivity checks for no transport, without integrity, malformed, or late with credentials that were replaced.
    dropped_stun,
    /// Connectivity checks of clients that had sent too many.
    dropped_excess_checks,
    /// Packets whose authentication failed.
    dropped_unauthenticated,
    /// Packets received a second time, or too late to tell.
    dropped_replayed,
    /// Packets before the handshake has made keys.
    dropped_without_keys,
    /// Packets of an SSRC that no track claims, of a second one beside a live one, or beyond the number a transport may use.
    dropped_unknown_ssrc,
    /// Media packets too large to forward, older than the retransmission window, or sent again for a source that is gone.
    dropped_unusable,
    /// Media packets, and sender reports, beyond the rate that a track may have.
    dropped_excess_media,
    /// Negative acknowledgements read in part: their datagram asked for more packets than are looked for.
    dropped_excess_nacks,
    /// Keyframe requests of subscribers to whom a keyframe was on its way, or who had asked too often.
    dropped_excess_keyframe_requests,
    /// DTLS datagrams beyond the queue for cold work.
    dropped_handshake,
    /// Feedback and handshake datagrams that did not fit their buffer.
    dropped_control,
    /// Messages to siblings that were further behind than the queues between shards reach, packets above all.
    dropped_sibling,
    /// Video packets not sent to a subscriber because they had waited for too long.
    shed_late,
    /// Video packets not sent to a subscriber because it is paused.
    shed_paused,
    /// Video packets of publishers dropped before decryption.
    shed_unopened,
    /// Keyframe requests sent to publishers.
    keyframe_requests_sent,
    /// Keyframe requests received from subscribers.
    keyframe_requests_received,
    /// Packets sent, retransmissions not counted, of which subscribers have said how many they lost.
    packets_reported,
    /// Those they lost.
    packets_reported_lost,
    /// Negative acknowledgements sent to publishers, in packets asked for.
    nacks_sent,
    /// Packets that subscribers asked for.
    nacks_received,
    /// Transport-wide feedback packets sent.
    transport_feedback_sent,
    /// Transports that connected.
    transports_connected,
    /// Transports that failed their handshake.
    handshakes_failed,
}
