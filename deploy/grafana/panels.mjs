// What the dashboards show: rows of panels, each a title, a unit and what is asked of Prometheus. build.mjs makes Grafana's files of it.
// Order is that of looking when one is called: how bad is it, where, and why.
//
// A panel is [title, unit, { legend: query }, description]; `{{label}}` in a legend is the label's value. Units are Grafana's names. A query that names
// `$instance` is of the chosen instances, one that names `$region` of the chosen regions; the others are of everything.

const chosen = 'instance=~"$instance"';
const RATE = "$__rate_interval";

/** Per second, by these labels. */
const rate = (metric, by, selector = chosen) => `sum by (${by}) (rate(${metric}{${selector}}[${RATE}]))`;
/** A quantile of a histogram, by these labels. */
const quantile = (q, metric, by = "instance", selector = chosen) =>
  `histogram_quantile(${q}, sum by (${by ? `${by}, ` : ""}le) (rate(${metric}_bucket{${selector}}[${RATE}])))`;
/** Median and both ends of a histogram, all chosen instances together. */
const spread = (metric, selector = chosen) => ({
  "p50": quantile(0.5, metric, "", selector),
  "p95": quantile(0.95, metric, "", selector),
  "p99": quantile(0.99, metric, "", selector),
});
const one = (metric, selector = chosen) => `${metric}{${selector}}`;
const regions = 'region=~"$region"';

const processes = () => [
  ["CPU", "short", { "{{instance}}": `rate(${one("process_cpu_seconds_total")}[${RATE}])` }, "In processors."],
  ["Memory", "bytes", { "{{instance}}": one("process_resident_memory_bytes") }, "Resident. Grows with connections and transports, and comes to rest with them."],
  ["Open files", "short", { "{{instance}}": one("process_open_fds"), "limit of {{instance}}": one("process_max_fds") }, "Sockets above all."],
  ["Age", "s", { "{{instance}}": `time() - ${one("process_start_time_seconds")}` }, "A drop to 0 is a start."],
];

export const dashboards = [
  {
    file: "fleet",
    title: "Sluice: fleet by region",
    about: "Is anything wrong, and where. From here to the dashboard of the part.",
    variables: ["region"],
    rows: [
      {
        title: "Now",
        stats: [
          ["SFU nodes", "short", { "": `sum(region:sluice_sfu_nodes:count{${regions}})` }, "That answer Prometheus."],
          ["Nodes taking new work", "short", { "": `sum(region:sluice_sfu_accepting_nodes:sum{${regions}})` }, "Below their marks, not draining, not superseded."],
          ["Edges", "short", { "": `count(sluice_edge_info{${regions}})` }],
          ["Rooms", "short", { "": `sum(region:sluice_sfu_rooms:sum{${regions}})` }, "With media. One that has streams on two nodes counts twice."],
          ["Clients", "short", { "": `sum(region:sluice_edge_connections:sum{${regions}})` }],
          ["Sent", "Bps", { "": `sum(region:sluice_sfu_egress_bytes:rate1m{${regions}})` }],
          ["Alerts to be called for", "short", { "": 'count(ALERTS{alertstate="firing", severity="page"}) or vector(0)' }, "docs/runbook.md has a section for each."],
          ["All alerts", "short", { "": 'count(ALERTS{alertstate="firing"}) or vector(0)' }],
        ],
      },
      {
        title: "What is there",
        panels: [
          ["Services that answer", "short", { "{{job}}": 'sum by (job) (up{job=~"edge|sfu"})' }],
          ["Nodes and those that take new work", "short", { "{{region}}": `region:sluice_sfu_nodes:count{${regions}}`, "{{region}}, taking": `region:sluice_sfu_accepting_nodes:sum{${regions}}` }, "Where none takes anything, publishing fails (error 10)."],
          ["Versions", "short", { "{{program}} {{version}}": "count by (program, version) (sluice_build_info)" }, "Two of a program: a rolling update, or one that was not finished."],
          ["Alerts", "short", { "{{alertname}}": 'count by (alertname) (ALERTS{alertstate="firing"}) or vector(0)' }],
        ],
      },
      {
        title: "Room for more",
        panels: [
          ["Pressure", "percentunit", { "least in {{region}}": `region:sluice_sfu_load_pressure_ratio:min{${regions}}`, "most in {{region}}": `region:sluice_sfu_load_pressure_ratio:max{${regions}}` }, "The greatest of a node's measures, each over its mark. At 100 % a node takes nothing new. New streams go where it is least: when that nears 100 %, add nodes."],
          ["Sent against capacity", "Bps", { "{{region}}": `region:sluice_sfu_egress_bytes:rate1m{${regions}}`, "capacity of {{region}}": `region:sluice_sfu_capacity_egress_bytes_per_second:sum{${regions}}` }],
          ["Subscribed tracks against capacity", "short", { "{{region}}": `region:sluice_sfu_load_tracks:sum{${regions}}`, "capacity of {{region}}": `region:sluice_sfu_capacity_tracks:sum{${regions}}` }],
          ["Transports against capacity", "short", { "{{region}}": `region:sluice_sfu_transports:sum{${regions}}`, "capacity of {{region}}": `region:sluice_sfu_capacity_transports:sum{${regions}}` }],
          ["Received", "Bps", { "{{region}}": `region:sluice_sfu_ingress_bytes:rate1m{${regions}}` }],
          ["Pressure of each node", "percentunit", { "{{instance}}": `topk(20, sluice_sfu_load_pressure_ratio * on (job, instance) group_left (region) sluice_sfu_info{${regions}})` }, "The twenty with most."],
        ],
      },
      {
        title: "Work",
        panels: [
          ["Rooms with media", "short", { "{{region}}": `region:sluice_sfu_rooms:sum{${regions}}` }],
          ["Clients", "short", { "{{region}}": `region:sluice_edge_connections:sum{${regions}}` }],
          ["Publications and subscriptions", "short", { publications: "sum(sluice_sfu_publications)", subscriptions: "sum(sluice_sfu_subscriptions)" }, "Of all regions."],
        ],
      },
      {
        title: "What is turned away",
        panels: [
          ["Refused by nodes", "reqps", { "{{region}} {{reason}}": `region:sluice_sfu_refused:rate5m{${regions}}` }, "`overloaded`, `full`: more nodes. `draining`, `superseded`: edges that have not heard of it yet."],
          ["Refused by edges", "reqps", { "{{region}} {{reason}}": `region:sluice_edge_connections_refused:rate5m{${regions}}` }, "Connections. `overloaded`, `full`, `edge_rate`: more edges."],
          ["Requests that failed by our fault", "percentunit", { "{{region}}": `region:sluice_edge_own_errors:max{${regions}}` }, "Of the worst edge: the store, the nodes, ourselves."],
        ],
      },
      {
        title: "What calls notice",
        panels: [
          ["Packets lost on the way to subscribers", "percentunit", { "{{region}}": `region:sluice_sfu_loss_to_subscribers:max{${regions}}` }, "Of the worst node, before they are sent again."],
          ["Delay in nodes, p99", "s", { "{{region}}": `region:sluice_sfu_forwarding_delay_seconds:p99{${regions}}` }],
          ["Video dropped to keep audio", "pps", { "{{region}}": `region:sluice_sfu_shed_packets:rate1m{${regions}}` }],
          ["Nodes found dead", "short", { "": "max(increase(sluice_edge_node_deaths_total[10m]))" }, "In the last ten minutes, as the edge that saw most of them counts."],
          ["Streams that ended on their nodes", "short", { "": "sum(increase(sluice_edge_publications_lost_total[5m]))" }, "In the last five minutes: nodes or clients' networks that failed."],
          ["Joins, p95", "s", { "{{instance}}": `instance:sluice_edge_join_seconds:p95 * on (job, instance) group_left (region) sluice_edge_info{${regions}}` }, "Of each edge."],
        ],
      },
    ],
  },
  {
    file: "sfu-node",
    title: "Sluice: SFU node",
    about: "One node, or some. A shard is a thread with a socket: what is full is a shard first, and a node only then.",
    variables: ["region", "sfu"],
    rows: [
      {
        title: "Now",
        stats: [
          ["Pressure", "percentunit", { "{{instance}}": one("sluice_sfu_load_pressure_ratio") }, "As placement sees it. At 100 % it takes nothing new."],
          ["Delay, p99", "s", { "{{instance}}": one("instance:sluice_sfu_forwarding_delay_seconds:p99") }],
          ["Transports", "short", { "{{instance}}": one("sluice_sfu_transports") }],
          ["Sent", "Bps", { "{{instance}}": one("instance:sluice_sfu_egress_bytes:rate1m") }],
          ["Draining", "short", { "{{instance}}": one("sluice_sfu_draining") }, "1: it goes away."],
          ["Registered in etcd", "short", { "{{instance}}": one("sluice_sfu_registered") }, "0: edges that start now do not know it."],
          ["Superseded", "short", { "{{instance}}": one("sluice_sfu_superseded") }, "1: another process has its id."],
        ],
      },
      {
        title: "Load, as placement sees it",
        panels: [
          ["Pressure", "percentunit", { "{{instance}}": one("sluice_sfu_load_pressure_ratio") }, "The greatest of the measures beside it, each over its mark (`overload.*`)."],
          ["CPU and the busiest shard", "percentunit", { "CPU of {{instance}}": one("sluice_sfu_load_cpu_ratio"), "busiest shard of {{instance}}": one("sluice_sfu_load_busy_ratio") }],
          ["Memory", "percentunit", { "{{instance}}": one("sluice_sfu_load_memory_ratio") }],
          ["Delay", "s", { "{{instance}}": one("sluice_sfu_load_delay_seconds") }, "p95 of the last second: the kernel's queue, and ours."],
          ["Sent against capacity", "Bps", { "{{instance}}": one("sluice_sfu_load_egress_bytes_per_second"), "capacity of {{instance}}": one("sluice_sfu_capacity_egress_bytes_per_second") }],
          ["Subscribed tracks against capacity", "short", { "{{instance}}": one("sluice_sfu_load_tracks"), "capacity of {{instance}}": one("sluice_sfu_capacity_tracks") }],
          ["Packets", "pps", { "{{instance}}": one("sluice_sfu_load_packets_per_second") }],
          ["Loss", "percentunit", { "{{instance}}": one("sluice_sfu_load_loss_ratio") }],
          ["Refused", "reqps", { "{{reason}}": rate("sluice_sfu_refused_total", "reason") }],
          ["Refuses because it is overloaded", "short", { "{{what}} {{instance}}": one("sluice_sfu_refusing") }, "1: new transports that bring it. Publications first, for they can go elsewhere."],
        ],
      },
      {
        title: "Shards",
        panels: [
          ["Busy", "percentunit", { "{{instance}} {{shard}}": rate("sluice_sfu_shard_busy_seconds_total", "instance, shard") }, "Share of time that the shard did not wait. Near 100 % it is full."],
          ["CPU", "percentunit", { "{{instance}} {{shard}}": rate("sluice_sfu_shard_cpu_seconds_total", "instance, shard") }, "Far below `busy`: others want the same CPU (ShardStarved)."],
          ["Subscribed tracks", "short", { "{{instance}} {{shard}}": one("sluice_sfu_shard_subscribed_tracks") }],
          ["Overload level", "short", { "{{instance}} {{shard}}": one("sluice_sfu_overload_level") }, "0: none; up to 8: so many eighths of the subscriptions to video are paused; 9: no video is even decrypted."],
          ["Video dropped to keep audio", "pps", { "{{instance}} {{how}}": rate("sluice_sfu_shed_packets_total", "instance, how") }, "`late`: too old to be sent; `paused`: of paused subscriptions; `unopened`: not even decrypted."],
          ["Paused subscriptions", "short", { "{{instance}} {{shard}}": one("sluice_sfu_shed_subscriptions") }],
        ],
      },
      {
        title: "Traffic",
        panels: [
          ["Packets", "pps", { "in {{instance}}": one("instance:sluice_sfu_packets_received:rate1m"), "out {{instance}}": one("instance:sluice_sfu_packets_sent:rate1m") }],
          ["Bytes", "Bps", { "in {{instance}}": one("instance:sluice_sfu_ingress_bytes:rate1m"), "out {{instance}}": one("instance:sluice_sfu_egress_bytes:rate1m") }],
          ["Datagrams lost in this machine", "pps", { "not fetched in time {{instance}}": rate("sluice_sfu_receive_overflows_total", "instance"), "send buffer full {{instance}}": rate("sluice_sfu_send_congested_total", "instance") }, "The kernel's receive buffer was full, or its send buffer stayed full for 3 ms."],
          ["Packets per call of the kernel", "short", { "{{instance}}": `sum by (instance) (rate(sluice_sfu_packets_sent_total{${chosen}}[${RATE}])) / clamp_min(sum by (instance) (rate(sluice_sfu_send_calls_total{${chosen}}[${RATE}])), 1)` }, "Sent. More is cheaper."],
          ["Refused and split by the kernel", "pps", { "refused {{instance}}": rate("sluice_sfu_send_refused_total", "instance"), "split {{instance}}": rate("sluice_sfu_send_split_total", "instance"), "errors on receiving {{instance}}": rate("sluice_sfu_receive_errors_total", "instance") }, "Split: runs of datagrams that had to go one by one."],
          ["Between shards", "pps", { "queue full {{instance}}": rate("sluice_sfu_sibling_overflows_total", "instance"), "given again {{instance}}": rate("sluice_sfu_packets_lent_again_total", "instance") }, "A shard that is behind."],
        ],
      },
      {
        title: "Delay",
        panels: [
          ["Forwarding delay", "s", spread("sluice_sfu_forwarding_delay_seconds"), "From a packet's arrival in a shard to its being sent, once for each subscriber; all chosen nodes."],
          ["Forwarding delay by node, p99", "s", { "{{instance}}": one("instance:sluice_sfu_forwarding_delay_seconds:p99") }],
          ["Wait in the kernel's receive queue", "s", spread("sluice_sfu_receive_wait_seconds"), "Grows before datagrams are lost."],
        ],
      },
      {
        title: "Drops",
        panels: [
          ["Dropped by reason", "pps", { "{{reason}}": `sum by (reason) (instance:sluice_sfu_dropped:rate1m{${chosen}})` }, "docs/metrics.md says what each reason is."],
          ["Dropped by node", "pps", { "{{instance}}": `sum by (instance) (instance:sluice_sfu_dropped:rate1m{${chosen}})` }],
          ["Transports closed by reason", "short", { "{{reason}}": rate("sluice_sfu_transports_closed_total", "reason") }, "A second. `dtls_failed`: handshakes."],
        ],
      },
      {
        title: "Work",
        panels: [
          ["Transports", "short", { "{{instance}}": one("sluice_sfu_transports"), "capacity of {{instance}}": one("sluice_sfu_capacity_transports") }],
          ["Peers and rooms", "short", { "peers {{instance}}": one("sluice_sfu_peers"), "rooms {{instance}}": one("sluice_sfu_rooms") }],
          ["Publications and subscriptions", "short", { "publications {{instance}}": one("sluice_sfu_publications"), "subscriptions {{instance}}": one("sluice_sfu_subscriptions") }],
          ["Tracks", "short", { "{{direction}} {{kind}}": `sum by (direction, kind) (sluice_sfu_tracks{${chosen}})` }],
          ["Requests of edges", "reqps", { "{{method}} {{result}}": rate("sluice_sfu_requests_total", "method, result") }],
          ["Requests of edges, p95", "s", { "{{method}}": quantile(0.95, "sluice_sfu_request_seconds", "method") }],
          ["Edges that watch", "short", { "{{instance}}": one("sluice_sfu_watchers") }],
          ["Edges cut off, as they did not keep up", "short", { "{{instance}}": rate("sluice_sfu_watchers_lagged_total", "instance") }],
          ["etcd out of reach", "short", { "{{instance}}": rate("sluice_sfu_registration_failures_total", "instance") }],
        ],
      },
      {
        title: "Recordings (nodes with recording.url)",
        panels: [
          ["Under way", "short", { "{{instance}}": one("sluice_sfu_recordings") }],
          ["Written", "Bps", { "{{instance}}": rate("sluice_sfu_recording_bytes_total", "instance") }],
          ["Time of a round of writing, p99", "s", { "{{instance}}": quantile(0.99, "sluice_sfu_recording_write_seconds") }, "A round is 20 ms: near that the disk is at its limit."],
          ["Packets that recordings lack", "pps", { "{{reason}}": rate("sluice_sfu_recording_dropped_total", "reason"), "messages lost": rate("sluice_sfu_recorder_overflows_total", "job") }],
          ["Ended", "short", { "{{reason}}": rate("sluice_sfu_recording_ended_total", "reason") }, "A second. `disk_full`, `failed`: the log says of which and why."],
          ["Delivered", "short", { "{{result}}": rate("sluice_sfu_recording_deliveries_total", "result") }, "A second."],
          ["Spool", "bytes", { "{{instance}}": one("sluice_sfu_recording_spool_bytes") }],
          ["Waiting for delivery", "short", { "{{instance}}": one("sluice_sfu_recording_spool_waiting") }],
          ["The one that waits longest", "s", { "{{instance}}": one("sluice_sfu_recording_spool_oldest_seconds") }],
          ["CPU of the recorder", "percentunit", { "{{instance}}": rate("sluice_sfu_recorder_cpu_seconds_total", "instance") }],
        ],
      },
      { title: "Process", panels: processes() },
    ],
  },
  {
    file: "edge",
    title: "Sluice: edge",
    about: "One edge, or some: who is connected, what they ask, what they are answered, and how fast.",
    variables: ["region", "edge"],
    rows: [
      {
        title: "Now",
        stats: [
          ["Clients", "short", { "{{instance}}": one("sluice_edge_connections") }],
          ["Overloaded", "short", { "{{instance}}": one("sluice_edge_overloaded") }, "1: it turns new sockets away."],
          ["Room store seen", "short", { "{{instance}}": one("sluice_edge_store_seen") }, "0: everything that changes a room is answered error 11."],
          ["SFU nodes up", "short", { "{{instance}}": one("sluice_edge_nodes_up") }],
          ["SFU nodes cut off", "short", { "{{instance}}": one("sluice_edge_nodes_cut_off") }, "That live and cannot be reached from here."],
          ["Failed by our fault", "percentunit", { "{{instance}}": one("instance:sluice_edge_own_errors:ratio_rate5m") }],
          ["Joins, p95", "s", { "{{instance}}": one("instance:sluice_edge_join_seconds:p95") }],
        ],
      },
      {
        title: "Connections",
        panels: [
          ["Open", "short", { "{{instance}}": one("sluice_edge_connections") }],
          ["New", "reqps", { "{{instance}}": rate("sluice_edge_connections_total", "instance") }],
          ["Refused by reason", "reqps", { "{{reason}}": rate("sluice_edge_connections_refused_total", "reason") }, "Before the upgrade, with 503 or 401."],
          ["Closed by us", "short", { revoked: rate("sluice_edge_connections_revoked_total", "job"), slow: rate("sluice_edge_slow_clients_total", "job"), silent: rate("sluice_edge_silent_clients_total", "job"), "moved to another edge": rate("sluice_edge_clients_moved_total", "job") }, "A second."],
          ["Rooms and members", "short", { "rooms {{instance}}": one("sluice_edge_rooms"), "members {{instance}}": one("sluice_edge_members") }],
          ["Streams", "short", { "{{instance}}": one("sluice_edge_streams") }],
        ],
      },
      {
        title: "Requests",
        panels: [
          ["By method", "reqps", { "{{method}}": `sum by (method) (instance:sluice_edge_requests:rate1m{${chosen}})` }],
          ["Errors", "reqps", { "{{error}}": rate("sluice_edge_requests_total", "error", `${chosen}, error!="none"`) }, "By the contract's names (docs/signalling.md)."],
          ["Errors by method", "reqps", { "{{method}}": rate("sluice_edge_requests_total", "method", `${chosen}, error!="none"`) }],
          ["Time until the answer, p95", "s", { "{{method}}": quantile(0.95, "sluice_edge_request_seconds", "method") }],
          ["Limits hit", "reqps", { "{{limit}}": rate("sluice_edge_limited_total", "limit") }, "Error 429. `edge`: more edges; `unanswered`: a slow store or slow nodes; the others: clients."],
          ["Frames without an answer", "reqps", { "{{reason}}": rate("sluice_edge_frames_dropped_total", "reason") }, "Clients that speak something else."],
        ],
      },
      {
        title: "Joins and notifications",
        panels: [
          ["Joins", "reqps", { "{{how}}": rate("sluice_edge_joins_total", "how") }, "`resumed`: after a cut. Many at once: an edge or a network has failed."],
          ["Time of a join", "s", spread("sluice_edge_join_seconds")],
          ["Time of a join by kind, p95", "s", { "{{how}}": quantile(0.95, "sluice_edge_join_seconds", "how") }],
          ["Time of a notification", "s", spread("sluice_edge_notification_seconds"), "From the room's log to the client's socket, within the edge."],
          ["Resyncs", "short", { "{{instance}}": rate("sluice_edge_resyncs_total", "instance") }, "A second: clients that could not be told what they had missed, and began anew."],
          ["Entries missed, broadcasts lost", "short", { "entries {{instance}}": rate("sluice_edge_log_entries_missed_total", "instance"), "broadcasts {{instance}}": rate("sluice_edge_broadcasts_lost_total", "instance") }],
        ],
      },
      {
        title: "Queues and overload",
        panels: [
          ["Queues", "short", { "{{queue}}": `sum by (queue) (sluice_edge_queue_depth{${chosen}})` }, "What waits in the edge."],
          ["Waiting for clients that read slowly", "bytes", { "{{instance}}": one("sluice_edge_queued_bytes") }],
          ["Lag of the runtime, p99", "s", { "{{instance}}": one("instance:sluice_edge_loop_lag_seconds:p99") }, "By how much a sleep is late: everything else is, too."],
          ["Overloaded", "short", { "{{instance}}": one("sluice_edge_overloaded") }],
        ],
      },
      {
        title: "SFU nodes, as seen from here",
        panels: [
          ["Up and cut off", "short", { "up {{instance}}": one("sluice_edge_nodes_up"), "cut off {{instance}}": one("sluice_edge_nodes_cut_off") }],
          ["Calls", "reqps", { "{{call}} {{result}}": rate("sluice_edge_sfu_call_seconds_count", "call, result") }],
          ["Calls, p95", "s", { "{{call}}": quantile(0.95, "sluice_edge_sfu_call_seconds", "call") }],
          ["Age of loads", "s", { "{{instance}}": one("sluice_edge_load_age_seconds") }, "Since it heard of the load of the node that it has heard of least lately. Placement goes by loads: at most 1 s, of empty nodes 3 s."],
          ["Streams that ended on their nodes", "short", { lost: rate("sluice_edge_publications_lost_total", "job"), "told to move": rate("sluice_edge_migrations_told_total", "job"), "not recorded": rate("sluice_edge_publications_unrecorded_total", "job") }, "A second."],
          ["Trouble with nodes", "short", { "watches cut": rate("sluice_edge_node_watches_cut_total", "job"), "found dead": rate("sluice_edge_node_deaths_total", "job"), "closes abandoned": rate("sluice_edge_transport_closes_abandoned_total", "job") }, "A second."],
        ],
      },
      { title: "Process", panels: processes() },
    ],
  },
  {
    file: "call-quality",
    title: "Sluice: call quality",
    about: "What people in calls hear and see, as far as the servers can tell. Loss on one node: its network. On all: look for what they share.",
    variables: ["region", "sfu"],
    rows: [
      {
        title: "Now",
        stats: [
          ["Lost to subscribers", "percentunit", { "{{instance}}": one("instance:sluice_sfu_loss_to_subscribers:ratio_rate5m") }, "Before they are sent again."],
          ["Lost from publishers, and repaired", "percentunit", { "{{instance}}": one("instance:sluice_sfu_loss_from_publishers:ratio_rate5m") }, "Packets that came only when they were asked for again."],
          ["Delay, p99", "s", { "{{instance}}": one("instance:sluice_sfu_forwarding_delay_seconds:p99") }],
          ["Video dropped", "pps", { "{{instance}}": `sum by (instance) (instance:sluice_sfu_shed_packets:rate1m{${chosen}})` }],
          ["Joins, p95", "s", { "": "max(instance:sluice_edge_join_seconds:p95)" }, "Of the slowest edge."],
        ],
      },
      {
        title: "Loss",
        panels: [
          ["On the way to subscribers", "percentunit", { "{{instance}}": one("instance:sluice_sfu_loss_to_subscribers:ratio_rate5m") }, "Of the packets that subscribers have reported on."],
          ["On the way from publishers, and repaired", "percentunit", { "{{instance}}": one("instance:sluice_sfu_loss_from_publishers:ratio_rate5m") }, "Packets that came only when they were asked for again, over all that came; only video is asked for. 1 to 3 % are usual on wireless. What never came is not in it: see beside it."],
          ["Requests to publishers that brought a packet", "percentunit", { "{{instance}}": `sum by (instance) (rate(sluice_sfu_packets_recovered_total{${chosen}}[${RATE}])) / clamp_min(sum by (instance) (rate(sluice_sfu_nacks_sent_total{${chosen}}[${RATE}])), 1)` }, "A packet is asked for up to ten times, so half may still mean that all came. Near 0: publishers do not answer, and what they lose is seen."],
        ],
      },
      {
        title: "Repair",
        panels: [
          ["NACKs", "pps", { "of subscribers {{instance}}": rate("sluice_sfu_nacks_received_total", "instance"), "to publishers {{instance}}": rate("sluice_sfu_nacks_sent_total", "instance") }, "Requests for packets: for one that was lost up to ten."],
          ["Sent again", "pps", { "{{instance}}": rate("sluice_sfu_packets_retransmitted_total", "instance"), "not there any more {{instance}}": rate("sluice_sfu_retransmissions_missed_total", "instance") }],
          ["Sent again, of all sent", "percentunit", { "{{instance}}": `sum by (instance) (rate(sluice_sfu_packets_retransmitted_total{${chosen}}[${RATE}])) / clamp_min(sum by (instance) (rate(sluice_sfu_packets_sent_total{${chosen}}[${RATE}])), 1)` }],
          ["Keyframe requests", "reqps", { "of subscribers {{instance}}": rate("sluice_sfu_keyframe_requests_received_total", "instance"), "to publishers {{instance}}": rate("sluice_sfu_keyframe_requests_sent_total", "instance") }, "Each costs a burst of packets. Many without newcomers: pictures break."],
          ["Feedback to publishers", "pps", { "{{instance}}": rate("sluice_sfu_transport_feedback_sent_total", "instance") }, "By which they find out how fast they may send."],
        ],
      },
      {
        title: "Delay",
        panels: [
          ["In the node", "s", spread("sluice_sfu_forwarding_delay_seconds")],
          ["In the kernel's receive queue", "s", spread("sluice_sfu_receive_wait_seconds")],
          ["By node, p99", "s", { "{{instance}}": one("instance:sluice_sfu_forwarding_delay_seconds:p99") }],
        ],
      },
      {
        title: "Getting in, staying in",
        panels: [
          ["Time of a join", "s", spread("sluice_edge_join_seconds", 'job=~".+"'), "All edges."],
          ["Media connected", "short", { "connected {{instance}}": rate("sluice_sfu_transports_connected_total", "instance"), "failed {{instance}}": rate("sluice_sfu_handshakes_failed_total", "instance") }, "Transports a second. Failed handshakes: firewalls, UDP ports, `media.public_ip`."],
          ["Transports closed by reason", "short", { "{{reason}}": rate("sluice_sfu_transports_closed_total", "reason") }, "A second."],
          ["Streams that ended on their nodes", "short", { "{{instance}}": 'sum by (instance) (increase(sluice_edge_publications_lost_total[5m]))' }, "In five minutes, as edges count them."],
          ["Video dropped to keep audio", "pps", { "{{instance}} {{how}}": rate("sluice_sfu_shed_packets_total", "instance, how") }],
          ["Notifications", "s", spread("sluice_edge_notification_seconds", 'job=~".+"'), "From the room's log to sockets. All edges."],
        ],
      },
    ],
  },
  {
    file: "stores-and-logs",
    title: "Sluice: stores and logs",
    about: "Redis, etcd and Kafka, as edges and nodes see them.",
    variables: ["region", "edge"],
    rows: [
      {
        title: "Now",
        stats: [
          ["Edges seeing the store", "short", { "": `sum(sluice_edge_store_seen{${chosen}})` }],
          ["Room store, p95", "s", { "{{kind}}": `max by (kind) (instance:sluice_edge_store_seconds:p95{${chosen}})` }, "Of the slowest edge."],
          ["Nodes in etcd", "short", { "": "sum(sluice_sfu_registered)" }],
          ["Log lines dropped", "short", { "": "sum(increase(sluice_log_lines_dropped_total[10m]))" }, "In ten minutes, of all services."],
          ["Events dropped", "short", { "": "sum(increase(sluice_events_dropped_total[10m]))" }, "In ten minutes: they are lines of the log instead."],
        ],
      },
      {
        title: "Room store (Redis)",
        panels: [
          ["Calls", "reqps", { "{{kind}} {{result}}": rate("sluice_edge_store_seconds_count", "kind, result") }],
          ["Calls that failed", "reqps", { "{{kind}} {{result}}": rate("sluice_edge_store_seconds_count", "kind, result", `${chosen}, result!="ok"`) }, "`refused`: the room's rules said no."],
          ["Time of a step", "s", spread("sluice_edge_store_seconds", `${chosen}, kind="step"`), "A change of a room."],
          ["Time of a read", "s", spread("sluice_edge_store_seconds", `${chosen}, kind="read"`)],
          ["Time by edge, p95", "s", { "{{instance}} {{kind}}": one("instance:sluice_edge_store_seconds:p95") }, "One edge alone: its network. All: the store."],
          ["Seen", "short", { "{{instance}}": one("sluice_edge_store_seen") }],
          ["Leases refreshed", "reqps", { "{{instance}}": rate("sluice_edge_leases_refreshed_total", "instance") }],
          ["Lost and put back", "short", { "resets": rate("sluice_edge_store_resets_total", "job"), "sessions put back": rate("sluice_edge_sessions_put_back_total", "job"), "rooms healed": rate("sluice_edge_rooms_healed_total", "job"), "broadcasts lost": rate("sluice_edge_broadcasts_lost_total", "job") }, "A second. After failovers and restarts of the store."],
          ["Entries of rooms' logs that came too late", "short", { "{{instance}}": rate("sluice_edge_log_entries_missed_total", "instance") }, "A second."],
          ["Writes deferred", "short", { "{{instance}}": rate("sluice_edge_node_writes_deferred_total", "instance") }, "A second: what nodes told while the store was away."],
        ],
      },
      {
        title: "etcd and SFU nodes",
        panels: [
          ["Nodes registered", "short", { "{{instance}}": "sluice_sfu_registered" }],
          ["Registration failures", "short", { "{{instance}}": "sum by (instance) (increase(sluice_sfu_registration_failures_total[5m]))" }, "In five minutes: etcd was out of reach, or refused."],
          ["Age of loads", "s", { "{{instance}}": one("sluice_edge_load_age_seconds") }],
          ["gRPC calls", "reqps", { "{{call}} {{result}}": rate("sluice_edge_sfu_call_seconds_count", "call, result") }],
          ["gRPC calls, p95", "s", { "{{call}}": quantile(0.95, "sluice_edge_sfu_call_seconds", "call") }],
          ["Keys that could not be fetched", "short", { "{{instance}}": rate("sluice_edge_jwks_failures_total", "instance") }, "From `auth.jwks_url`, a second."],
        ],
      },
      {
        title: "Logs, events, traces (all services)",
        panels: [
          ["Lines dropped", "short", { "{{instance}} {{sink}}": `sum by (instance, sink) (rate(sluice_log_lines_dropped_total[${RATE}]))` }, "A second."],
          ["Events", "short", { "told": `sum(rate(sluice_events_total[${RATE}]))`, "dropped": `sum(rate(sluice_events_dropped_total[${RATE}]))` }, "A second."],
          ["Kafka", "short", { "events dropped": `sum(rate(sluice_kafka_messages_dropped_total[${RATE}]))`, "clients replaced": `sum(rate(sluice_kafka_producers_replaced_total[${RATE}]))` }, "A second."],
          ["Traces not exported", "short", { "{{why}}": `sum by (why) (rate(sluice_traces_dropped_total[${RATE}]))` }, "Steps a second."],
        ],
      },
    ],
  },
];
