//! What an edge counts, said once; who counts it is in the module above. Labels come from fixed sets, never from rooms or users.

use telemetry::metrics::catalogue::{counter, gauge, histogram};

telemetry::catalogue! {
    "Edge: clients", "" {
        INFO = gauge("sluice_edge_info", "1, of the edge that runs.").labels(&[("edge", "its `id`"), ("region", ""), ("version", "")]);
        CONNECTIONS = gauge("sluice_edge_connections", "Open WebSocket connections.");
        CONNECTIONS_TOTAL = counter("sluice_edge_connections_total", "Connections ever opened.");
        REFUSED = counter("sluice_edge_connections_refused_total", "Connections, and requests for `/rtc-config`, not let in.")
            .labels(&[(
                "reason",
                "`full`, `address` (too many of one), `uid` (likewise), `rate` (of one address), `edge_rate` (of all), `draining`, \
                 `overloaded` (`overload.*`), `credentials`, `keys` (of the JWKS server, which cannot be had), `revocations` (not read \
                 from etcd yet)",
            )])
            .look("`full`, `edge_rate`, `overloaded`: more edges; `keys`: the JWKS server; `revocations`: etcd");
        REVOKED = counter("sluice_edge_connections_revoked_total", "Connections closed because their access was revoked.");
        SLOW_CLIENTS = counter("sluice_edge_slow_clients_total", "Clients closed because they took their frames too slowly.");
        SILENT_CLIENTS = counter("sluice_edge_silent_clients_total", "Sockets closed because nothing came from them.");
        CLIENTS_MOVED = counter(
            "sluice_edge_clients_moved_total",
            "Clients sent to another edge, because this one alone did not see the room store.",
        )
        .look("an edge cut off from Redis");
        JWKS_FAILURES = counter("sluice_edge_jwks_failures_total", "Fetches of keys from the JWKS server that failed.")
            .look("new keys are not known while it grows");
        ROOMS = gauge("sluice_edge_rooms", "Rooms with a member on this edge.");
        MEMBERS = gauge("sluice_edge_members", "Memberships of this edge's sockets; a socket has one in each room it is in.");
        STREAMS = gauge("sluice_edge_streams", "Streams that these members publish.");
    }
    "Edge: requests", "" {
        REQUESTS = counter("sluice_edge_requests_total", "Requests that were answered, or carried out without an answer.")
            .labels(&[
                ("method", "as the protocol names it; `unknown`: none that there is"),
                ("error", "as the protocol names it ([signalling.md](signalling.md)); `none`: it was done"),
            ])
            .look("`store_unavailable`: the room store; `sfu_unreachable`, `no_sfu`: SFU nodes; `internal`: the log");
        REQUEST_SECONDS = histogram("sluice_edge_request_seconds", "Time until the answer.").labels(&[("method", "as above")]);
        JOINS = counter("sluice_edge_joins_total", "Joins that were carried out.").labels(&[(
            "how",
            "`new`, `resumed` (a session that goes on), `took_over` (from a socket of the same uid)",
        )]);
        JOIN_SECONDS = histogram("sluice_edge_join_seconds", "Time from the request until a join was carried out.")
            .labels(&[("how", "as above")]);
        RESYNCS = counter(
            "sluice_edge_resyncs_total",
            "Joins that were not told what they had missed, and were given all that is there (`resync`).",
        )
        .look("cuts that are too long for rooms' logs, or a Redis that loses writes");
        NOTIFICATION_SECONDS = histogram(
            "sluice_edge_notification_seconds",
            "Time from when this edge had read an entry of a room's log until its frame was written to a socket, of every 16th socket.",
        )
        .look("clients on slow links, or an edge with too much to do");
        LIMITED = counter("sluice_edge_limited_total", "Requests refused with error 429.")
            .labels(&[(
                "limit",
                "`connection`, `uid`, `room` (what it is told), `room_joins`, `edge` (all of them together), `unanswered` (too many \
                 without an answer)",
            )])
            .look("`edge`: more edges; `unanswered`: a slow store or slow nodes; the others: a broken or hostile client");
        FRAMES_DROPPED = counter("sluice_edge_frames_dropped_total", "Frames dropped without an answer.")
            .labels(&[("reason", "`not_an_object`, `unknown_kind`, `no_id`, `response`")])
            .look("a client that speaks another protocol");
    }
    "Edge: load", "" {
        DRAINING = gauge("sluice_edge_draining", "1 while the edge goes away: it has begun to send its clients to others.");
        OVERLOADED = gauge("sluice_edge_overloaded", "1 while nobody new is let in, because of the load.").look("more edges");
        LOOP_LAG = histogram(
            "sluice_edge_loop_lag_seconds",
            "How late the runtime runs what is due, of four probes every 50 ms.",
        )
        .look("too few CPUs");
        QUEUE_DEPTH = gauge("sluice_edge_queue_depth", "What waits.")
            .labels(&[(
                "queue",
                "`node_events` (of nodes, for the store; at most 1,024), `returned` (owners who came back while a node drains; at most \
                 1,024), `sfu_waiting` (calls to nodes that wait for their turn), `sfu_running` (calls to nodes that wait for an \
                 answer), `room_inbox` (what rooms' tasks are still to look at)",
            )])
            .look("`node_events`: the room store; `sfu_…`: nodes that are slow; `room_inbox`: too few CPUs, or the room store");
        QUEUED_BYTES = gauge("sluice_edge_queued_bytes", "Bytes that wait for clients, each frame counted with 160 of its own.")
            .look("clients on slow links");
    }
    "Edge: SFU nodes", "" {
        NODES_UP = gauge("sluice_edge_nodes_up", "SFU nodes that answer this edge.").look("when it falls");
        NODES_CUT_OFF = gauge(
            "sluice_edge_nodes_cut_off",
            "SFU nodes that live, by their lease or their own word through the directory, and cannot be reached from this edge; nothing \
             of theirs is removed.",
        )
        .look("a firewall or a route between them");
        NODE_DEATHS = counter(
            "sluice_edge_node_deaths_total",
            "Starts of nodes found dead ([how](decisions/0009-when-a-node-is-dead.md)); each edge counts its own finding.",
        )
        .look("nodes that crash or are restarted without a drain");
        SFU_CALL_SECONDS = histogram("sluice_edge_sfu_call_seconds", "Time of calls to SFU nodes, their repetitions included.")
            .labels(&[
                ("call", "`negotiate`, `restart`, `record`, `set_metadata`, `close`, `survey`"),
                ("result", "`ok`, `refused` (the node said no), `unreachable` (no answer in time)"),
            ])
            .look("nodes that are overloaded or out of reach");
        LOAD_AGE = gauge(
            "sluice_edge_load_age_seconds",
            "How old the oldest load is that this edge knows of a node, what passed before it was written included; 0 where none reports any.",
        )
        .look("etcd, or a node that has lost touch with it");
        WATCHES_CUT = counter("sluice_edge_node_watches_cut_total", "Watches of nodes that ended or could not be opened.")
            .look("a node out of reach");
        NODE_WRITES_DEFERRED = counter(
            "sluice_edge_node_writes_deferred_total",
            "Times that what a node told could not be written to the room store yet: its room is compared again when the store answers.",
        )
        .look("the room store");
        MIGRATIONS_TOLD = counter(
            "sluice_edge_migrations_told_total",
            "Times that the owner of a stream was told to move it off a node that drains.",
        )
        .look("owners that do not move");
        PUBLICATIONS_LOST = counter("sluice_edge_publications_lost_total", "Streams that ended on their node, not by their owner.")
            .look("nodes or clients' networks that fail");
        UNRECORDED = counter(
            "sluice_edge_publications_unrecorded_total",
            "Streams that were to be recorded from their beginning (`minfo.record`, `recording.rooms`, a token) and are not, because \
             their node did not: the log says why.",
        )
        .look("no node with `recording.url`, or all make as many recordings as they may or have room for");
        CLOSES_ABANDONED = counter(
            "sluice_edge_transport_closes_abandoned_total",
            "Transports that a node could not be told to close: it notices their clients' silence.",
        )
        .look("a node out of reach");
    }
    "Edge: the room store", "" {
        STORE_SEEN = gauge("sluice_edge_store_seen", "1 while the room store answers (of a Redis Cluster any part of it), else 0.");
        STORE_SECONDS = histogram("sluice_edge_store_seconds", "Time of calls to Redis; there are none where rooms are in memory.")
            .labels(&[
                ("kind", "`step` (a change of a room, or a question of a member), `read` (a question about a room), `ping`"),
                ("result", "`ok`, `refused` (the room's rules say no), `unavailable`, `timeout`"),
            ])
            .look("Redis, or the way there");
        STORE_RESETS = counter("sluice_edge_store_resets_total", "Times that the room store had lost everything.")
            .look("a Redis without persistence that was restarted");
        SESSIONS_PUT_BACK = counter(
            "sluice_edge_sessions_put_back_total",
            "Sessions put back into the room store because it had lost them, or may have.",
        )
        .look("as above, and failovers");
        ROOMS_HEALED = counter(
            "sluice_edge_rooms_healed_total",
            "Rooms whose members were told what differs, because their log could not tell.",
        )
        .look("as above");
        BROADCASTS_LOST = counter(
            "sluice_edge_broadcasts_lost_total",
            "Broadcasts of this edge's clients that were accepted, and whose log was lost before it was read here.",
        )
        .look("as above");
        ENTRIES_MISSED = counter(
            "sluice_edge_log_entries_missed_total",
            "Entries of rooms' logs that this edge came to when they were kept no longer: its members of the room are closed with 1012 \
             and told `resync` when they join again.",
        )
        .look("an edge cut off from Redis while its rooms were busy elsewhere, or one that is overloaded");
        LEASES_REFRESHED = counter("sluice_edge_leases_refreshed_total", "Sessions' leases refreshed.");
    }
}
