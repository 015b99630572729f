//! Small integers that name things inside a node. They are made by the node's control side, are never reused while the
//! process lives, and never leave it: outside, things have the string ids of `proto`.

macro_rules! handle {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);
    };
}

handle!(
    /// A shard of this node, counted from 0.
    ShardIndex(u8)
);
handle!(
    /// A transport: one ICE, DTLS and SRTP association with a client.
    TransportHandle(u64)
);
handle!(
    /// A publication: up to [`crate::MAX_TRACKS`] tracks that one client sends.
    PublicationHandle(u64)
);
handle!(
    /// A subscription: tracks of one publication on their way to one client.
    SubscriptionHandle(u64)
);
