//! Which metrics a node has: docs/metrics.md is made from this. Where their values come from is their owners' business.

use telemetry::metrics::catalogue::{counter, gauge, histogram};

const RECORDING: &str = "with `recording.url`";
const ETCD: &str = "with `etcd` settings, and in `sluice`, whose node registers with its own edge";

telemetry::catalogue! {
    "SFU node: what is live", "" {
        INFO = gauge("sluice_sfu_info", "1, of the node that this is.")
            .labels(&[("node", ""), ("region", ""), ("version", "")]);
        ROOMS = gauge("sluice_sfu_rooms", "Rooms with a transport on this node.");
        PEERS = gauge("sluice_sfu_peers", "Clients with a transport on this node, each counted once in each of its rooms.");
        TRANSPORTS = gauge("sluice_sfu_transports", "Transports negotiated and not ended.");
        PUBLICATIONS = gauge("sluice_sfu_publications", "Streams that enter here.");
        SUBSCRIPTIONS = gauge("sluice_sfu_subscriptions", "Streams that leave here.");
        TRACKS = gauge("sluice_sfu_tracks", "Tracks of these streams.")
            .labels(&[("direction", "`in`, `out`"), ("kind", "`audio`, `video`")]);
        WATCHERS = gauge("sluice_sfu_watchers", "Watches that edges hold.");
        DRAINING = gauge("sluice_sfu_draining", "1 while the node goes away.");
        SUPERSEDED = gauge(
            "sluice_sfu_superseded",
            "1 when another process has registered with the node's id: somebody must give one of them another.",
        );
        REGISTERED = gauge("sluice_sfu_registered", "1 while the node's entry in etcd is known to be there.").only(ETCD);
        SHARD_TRANSPORTS = gauge("sluice_sfu_shard_transports", "Transports on a shard, as its thread sees it.")
            .labels(&[("shard", "")]);
        SHARD_SUBSCRIBED_TRACKS =
            gauge("sluice_sfu_shard_subscribed_tracks", "Tracks on their way to subscribers of a shard.")
                .labels(&[("shard", "")]);
    }
    "SFU node: load", "Measured four times a second over the last one; edges are told the same." {
        LOAD_CPU = gauge("sluice_sfu_load_cpu_ratio", "Share of the shards' processors in use, 0 to 1.");
        LOAD_BUSY = gauge("sluice_sfu_load_busy_ratio", "Share of its time that the busiest shard did not wait, 0 to 1.");
        LOAD_EGRESS = gauge("sluice_sfu_load_egress_bytes_per_second", "Media sent, as UDP payload.");
        LOAD_TRACKS = gauge("sluice_sfu_load_tracks", "Subscribed tracks.");
        LOAD_PACKETS = gauge("sluice_sfu_load_packets_per_second", "Packets sent.");
        LOAD_LOSS = gauge(
            "sluice_sfu_load_loss_ratio",
            "Share of packets lost on the way to subscribers in the last ten seconds, as they report it, 0 to 1.",
        );
        LOAD_DELAY = gauge(
            "sluice_sfu_load_delay_seconds",
            "How long 19 of 20 packets were on the slowest shard at most, their wait in the kernel's queue included.",
        );
        LOAD_MEMORY = gauge("sluice_sfu_load_memory_ratio", "Share of the memory that the process may have, 0 to 1.");
        LOAD_PRESSURE = gauge(
            "sluice_sfu_load_pressure_ratio",
            "The greatest of busy time, delay, memory and egress, each over its mark (`overload.*`). From 1 on new publications are \
             refused.",
        )
        .look("more nodes; whether all of the machine is the node's");
        REFUSING = gauge("sluice_sfu_refusing", "1 while new transports that bring it are refused, because the node is overloaded.")
            .labels(&[("what", "`publications`, `anything`")]);
        OVERLOAD_LEVEL = gauge("sluice_sfu_overload_level", "How much video a shard leaves away: 0 none, up to 8 eighths, 9 all.")
            .labels(&[("shard", "")]);
        SHED_SUBSCRIPTIONS = gauge("sluice_sfu_shed_subscriptions", "Subscriptions to video that a shard has paused.")
            .labels(&[("shard", "")]);
        CAPACITY_TRANSPORTS = gauge("sluice_sfu_capacity_transports", "Transports that there may be (`capacity.transports`).");
        CAPACITY_TRACKS = gauge("sluice_sfu_capacity_tracks", "Subscribed tracks that edges plan with (`capacity.tracks`).");
        CAPACITY_EGRESS = gauge(
            "sluice_sfu_capacity_egress_bytes_per_second",
            "Media that the node can send (`capacity.egress_bps`, in bytes).",
        );
    }
    "SFU node: calls of edges", "" {
        REQUESTS = counter("sluice_sfu_requests_total", "Calls answered; a watch counts when it is opened.").labels(&[
            (
                "method",
                "`negotiate`, `restart`, `close_transports`, `watch`, `describe`, `survey`, `set_metadata`, `record`",
            ),
            (
                "result",
                "`ok`, or gRPC's name of the failure: `invalid_argument`, `not_found`, `already_exists`, `resource_exhausted`, \
                 `failed_precondition`, `aborted`, `unavailable`, `other`",
            ),
        ]);
        REQUEST_SECONDS = histogram("sluice_sfu_request_seconds", "Time until the answer.")
            .labels(&[("method", "as above")]);
        REFUSED = counter("sluice_sfu_refused_total", "Negotiations that the node refused.")
            .labels(&[(
                "reason",
                "`full` (`capacity.transports`), `draining`, `superseded`, `overloaded`, `connecting` (too many of one client), \
                 `no_publication` (it has ended), `busy` (a shard is behind with its orders)",
            )])
            .look("`full`, `overloaded`: more nodes");
        TRANSPORTS_CLOSED = counter("sluice_sfu_transports_closed_total", "Transports that have ended.")
            .labels(&[(
                "reason",
                "`closed` (by an edge), `closed_by_client`, `publication_ended` (they carried nothing else), `never_connected`, \
                 `consent_expired` (the client has gone silent), `dtls_failed`, `node_ending`",
            )])
            .look("`never_connected`, `dtls_failed`: firewalls, or clients that are broken; `consent_expired`: clients' networks");
        WATCHERS_LAGGED = counter(
            "sluice_sfu_watchers_lagged_total",
            "Watches cut off because their edge did not keep up; it opens another.",
        )
        .look("an edge that is overloaded");
        REGISTRATION_FAILURES = counter(
            "sluice_sfu_registration_failures_total",
            "Times that etcd began to be out of reach, or refused the entry.",
        )
        .look("etcd")
        .only(ETCD);
        DRAIN_TRANSPORTS_CUT = counter(
            "sluice_sfu_drain_transports_cut_total",
            "Transports that were still there at the end of `drain.timeout`.",
        )
        .look("clients that do not move, or too short a time");
    }
    "SFU node: media", "Counted by each shard's thread, and read when a scrape asks." {
        SHARD_BUSY = counter("sluice_sfu_shard_busy_seconds_total", "Time that a shard's thread did not wait.")
            .labels(&[("shard", "")])
            .look("near one second a second the shard is full");
        SHARD_CPU = counter("sluice_sfu_shard_cpu_seconds_total", "Processor time of a shard's thread.")
            .labels(&[("shard", "")])
            .look("far below `sluice_sfu_shard_busy_seconds_total`: others want the same CPU");
        FORWARDING_DELAY = histogram(
            "sluice_sfu_forwarding_delay_seconds",
            "Time from the arrival of a media packet in a shard to its being sent, once for each subscriber.",
        )
        .labels(&[("shard", "")])
        .look("a CPU that is too slow or too busy");
        RECEIVE_WAIT = histogram(
            "sluice_sfu_receive_wait_seconds",
            "Time that the first datagram of a receive call had waited in the kernel's queue.",
        )
        .labels(&[("shard", "")])
        .look("as above");
        PACKETS_RECEIVED = counter("sluice_sfu_packets_received_total", "Media packets received and accepted.")
            .labels(&[("shard", "")]);
        BYTES_RECEIVED = counter("sluice_sfu_bytes_received_total", "Their bytes as they came from the network.")
            .labels(&[("shard", "")]);
        PACKETS_SENT = counter("sluice_sfu_packets_sent_total", "Media packets sent to subscribers, retransmissions not counted.")
            .labels(&[("shard", "")]);
        BYTES_SENT = counter("sluice_sfu_bytes_sent_total", "Their bytes as they go to the network.")
            .labels(&[("shard", "")]);
        PACKETS_RETRANSMITTED =
            counter("sluice_sfu_packets_retransmitted_total", "Packets sent again because a subscriber asked.")
                .labels(&[("shard", "")])
                .look("loss on the way to subscribers");
        RETRANSMISSIONS_MISSED = counter(
            "sluice_sfu_retransmissions_missed_total",
            "Packets asked for that were no longer, or not yet, there.",
        )
        .labels(&[("shard", "")])
        .look("long round trips, or loss on the way in");
        PACKETS_LENT_AGAIN = counter(
            "sluice_sfu_packets_lent_again_total",
            "Packets that another shard of the node had to be given a second time.",
        )
        .labels(&[("shard", "")])
        .look("a shard that is behind");
        PACKETS_RECOVERED = counter("sluice_sfu_packets_recovered_total", "Packets that publishers sent again.")
            .labels(&[("shard", "")])
            .look("loss on the way in");
        DROPPED = counter("sluice_sfu_dropped_total", "Datagrams and packets that were not processed.")
            .labels(&[
                ("shard", ""),
                (
                    "reason",
                    "`malformed` (no known protocol, too short or too long), `unknown_address` (RTP, RTCP or DTLS from an address that \
                     proved nothing), `stun` (connectivity checks for no transport, without integrity, malformed, or late with \
                     credentials that were replaced), `excess_checks` (those of clients that had sent too many), `unauthenticated`, \
                     `replayed` (a second time, or too late to tell), `without_keys` (before the handshake had made them), \
                     `unknown_ssrc` (one that no track claims, a second one beside a track's live one, or beyond a transport's number \
                     of SSRCs), `unusable` (too large to forward, older than the retransmission window, or sent again for a source \
                     that is gone), `excess_media` (of a track that had more than 10,000 a second, of audio 500, and sender reports \
                     beyond 20 a second), `excess_nacks` (requests for lost packets read in part, because their datagram named more \
                     than 512), `excess_keyframe_requests` (of subscribers to whom a keyframe was on its way, or who had asked too \
                     often), `handshake` (beyond the queue for cold work, or unusable), `control` (feedback and handshakes that did \
                     not fit their buffer), `sibling` (messages to other shards that were too far behind to get them)",
                ),
            ])
            .look(
                "`malformed`, `unknown_address`, `stun`, `unauthenticated`: somebody scans or attacks the port, or clients that moved \
                 without ICE; `excess_*`, `unknown_ssrc`: a broken or hostile client; `handshake`: a flood of handshakes; `control`, \
                 `sibling`: overload",
            );
        SHED_PACKETS = counter("sluice_sfu_shed_packets_total", "Video that an overloaded shard left away, to keep the sound.")
            .labels(&[
                ("shard", ""),
                (
                    "how",
                    "`late` (not sent because it had waited too long), `paused` (not sent to subscriptions that were paused), \
                     `unopened` (not even decrypted)",
                ),
            ])
            .look("more nodes; whether all of the machine is the node's");
        SIBLING_OVERFLOWS = counter(
            "sluice_sfu_sibling_overflows_total",
            "Times that messages to another shard found the queue to it full, and waited.",
        )
        .labels(&[("shard", "")])
        .look("a shard that is behind");
        RECORDER_OVERFLOWS = counter(
            "sluice_sfu_recorder_overflows_total",
            "Messages to the recorder that found the queue to it full, and were lost for recordings.",
        )
        .labels(&[("shard", "")])
        .look("as `sluice_sfu_recording_dropped_total` with `queue`");
        KEYFRAME_REQUESTS_SENT =
            counter("sluice_sfu_keyframe_requests_sent_total", "Keyframe requests sent to publishers.")
                .labels(&[("shard", "")]);
        KEYFRAME_REQUESTS_RECEIVED =
            counter("sluice_sfu_keyframe_requests_received_total", "Keyframe requests received from subscribers.")
                .labels(&[("shard", "")]);
        PACKETS_REPORTED = counter(
            "sluice_sfu_packets_reported_total",
            "Packets sent of which subscribers have said how many they lost.",
        )
        .labels(&[("shard", "")]);
        PACKETS_REPORTED_LOST = counter("sluice_sfu_packets_reported_lost_total", "Those they lost.")
            .labels(&[("shard", "")])
            .look("loss on the way to subscribers");
        NACKS_SENT = counter("sluice_sfu_nacks_sent_total", "Requests to publishers for lost packets: up to ten for one packet.")
            .labels(&[("shard", "")])
            .look("loss on the way in");
        NACKS_RECEIVED = counter("sluice_sfu_nacks_received_total", "Requests of subscribers for lost packets, each packet of a NACK counted.")
            .labels(&[("shard", "")])
            .look("loss on the way to subscribers");
        TRANSPORT_FEEDBACK_SENT = counter(
            "sluice_sfu_transport_feedback_sent_total",
            "Transport-wide feedback packets sent to publishers.",
        )
        .labels(&[("shard", "")]);
        TRANSPORTS_CONNECTED = counter("sluice_sfu_transports_connected_total", "Transports that connected.")
            .labels(&[("shard", "")]);
        HANDSHAKES_FAILED = counter("sluice_sfu_handshakes_failed_total", "Transports that failed their handshake.")
            .labels(&[("shard", "")])
            .look("clients that are broken, or an attack");
        RECEIVE_CALLS = counter("sluice_sfu_receive_calls_total", "Receive calls that brought datagrams.")
            .labels(&[("shard", "")]);
        RECEIVE_ERRORS = counter(
            "sluice_sfu_receive_errors_total",
            "Errors on receiving, such as ICMP messages about what was sent.",
        )
        .labels(&[("shard", "")]);
        RECEIVE_OVERFLOWS = counter(
            "sluice_sfu_receive_overflows_total",
            "Datagrams that the kernel dropped because the shard did not fetch them in time.",
        )
        .labels(&[("shard", "")])
        .look("a CPU that is too slow or too busy");
        SEND_CALLS = counter("sluice_sfu_send_calls_total", "Send calls.").labels(&[("shard", "")]);
        SEND_CONGESTED = counter(
            "sluice_sfu_send_congested_total",
            "Datagrams dropped because the send buffer stayed full for 3 ms.",
        )
        .labels(&[("shard", "")])
        .look(
            "bursts larger than the buffer ([`net.core.wmem_max`](configuration.md)), or an interface that is saturated; what its \
             queue drops shows in the kernel's statistics only (`tc -s qdisc`)",
        );
        SEND_REFUSED = counter(
            "sluice_sfu_send_refused_total",
            "Datagrams that the kernel refused: no route, filtered, no such address.",
        )
        .labels(&[("shard", "")]);
        SEND_SPLIT = counter("sluice_sfu_send_split_total", "Runs of datagrams that had to be sent one by one.")
            .labels(&[("shard", "")])
            .look("a path's MTU below 1,200 bytes, or a device without offload");
        ROUNDS = counter("sluice_sfu_rounds_total", "Rounds of the shard's loop.").labels(&[("shard", "")]);
    }
    "SFU node: recordings", "" {
        RECORDINGS = gauge("sluice_sfu_recordings", "Recordings under way.").only(RECORDING);
        RECORDING_PACKETS = counter(
            "sluice_sfu_recording_packets_total",
            "Packets given to recordings, those only counted there included.",
        )
        .only(RECORDING);
        RECORDING_BYTES = counter("sluice_sfu_recording_bytes_total", "Bytes written to their files.").only(RECORDING);
        RECORDING_DROPPED = counter(
            "sluice_sfu_recording_dropped_total",
            "Packets received that recordings lack. The call has them.",
        )
        .labels(&[(
            "reason",
            "`queue` (the recorder's thread did not run for a third of a second or more), `disk` (64 MiB were waiting for it)",
        )])
        .look("`queue`: too few CPUs; `disk`: a disk that is too slow, or that has hung")
        .only(RECORDING);
        RECORDING_ENDED = counter("sluice_sfu_recording_ended_total", "Recordings that have ended.")
            .labels(&[("reason", "`stopped`, `publication_ended`, `limit`, `node_ending`, `disk_full`, `failed`")])
            .look("`disk_full`, `failed`: the log says of which and why")
            .only(RECORDING);
        RECORDING_WRITE = histogram(
            "sluice_sfu_recording_write_seconds",
            "How long a writer took for what had come in a round of 20 ms.",
        )
        .look("near 0.02 the disk is at its limit")
        .only(RECORDING);
        RECORDER_CPU = counter("sluice_sfu_recorder_cpu_seconds_total", "Processor time of the recorder's threads.")
            .only(RECORDING);
        SPOOL_BYTES = gauge(
            "sluice_sfu_recording_spool_bytes",
            "Bytes in the spool, those of recordings under way included. It is looked into every 10 s.",
        )
        .only(RECORDING);
        SPOOL_WAITING = gauge(
            "sluice_sfu_recording_spool_waiting",
            "Recordings that have ended and are not delivered yet; at most 10,000 are counted.",
        )
        .only(RECORDING);
        SPOOL_OLDEST = gauge(
            "sluice_sfu_recording_spool_oldest_seconds",
            "How long ago the one of them that waits longest was last written to; grows while the store is away.",
        )
        .look("the store")
        .only(RECORDING);
        RECORDING_DELIVERIES = counter("sluice_sfu_recording_deliveries_total", "Deliveries to `recording.url`.")
            .labels(&[(
                "result",
                "`delivered` (recordings), `failed` (attempts that will be repeated), `renamed` (delivered recordings of which \
                 something else had a name)",
            )])
            .look("`failed`: the store, or the log's errors; `renamed`: who else writes to `recording.url`")
            .only(RECORDING);
    }
}
