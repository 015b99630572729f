//! The SFU node: threads, sockets and gRPC around the media core.

mod udp;
