//! Channels to SFU nodes: over TCP, with mutual TLS where the edge has a certificate for it, or whatever else a [`Connector`]
//! makes. A channel connects when it is first used, and again whenever it has to.

use std::time::Duration;

use http::Uri;
use proto::ids::NodeId;
use room_store::NodeRecord;
use thiserror::Error;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// How long making a connection may take: one lost SYN is bridged (1 s), a dead host is not waited for.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection may be silent before an HTTP/2 ping asks whether the node is still there, and how long its answer may
/// take: together how late a cut is noticed that nobody told. Less would cost a ping of every idle connection more often, and take a
/// node for gone whose packets were lost for a moment.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The address of a node cannot be used.
#[derive(Debug, Error)]
#[error("address of node {node} cannot be used: {reason}")]
pub struct BadAddress {
    node: NodeId,
    reason: String,
}

impl BadAddress {
    /// Says which node's, and what is wrong with it.
    pub fn new(node: NodeId, reason: impl Into<String>) -> Self {
        Self { node, reason: reason.into() }
    }
}

/// Makes channels to SFU nodes: over the network, or inside one process.
pub trait Connector: Send + Sync + 'static {
    /// A channel that connects when it is first used, and again whenever it has to.
    fn channel(&self, node: &NodeRecord) -> Result<Channel, BadAddress>;
}

/// Reaches nodes at their addresses over TCP. By default in plain text, at `http://` addresses only; with a certificate by mutual
/// TLS, at `https://` ones only: neither a node nor who writes the directory can talk an edge out of it.
#[derive(Debug, Clone, Default)]
pub struct TcpConnector {
    tls: Option<ClientTlsConfig>,
    server_name: Option<String>,
}

impl TcpConnector {
    /// With this edge's certificate and the authority that signed those of the nodes; `None`: in plain text. `server_name`: what all nodes'
    /// certificates are for; `None`: the host of each one's address.
    pub fn new(tls: Option<ClientTlsConfig>, server_name: Option<String>) -> Self {
        Self { tls: tls.map(|tls| tls.timeout(CONNECT_TIMEOUT)), server_name }
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, String> {
        let uri: Uri = address.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        // In brackets, as an address of IPv6 stands in a URI, it is no name of a certificate.
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let endpoint = Endpoint::from(uri.clone());
        match (uri.scheme_str(), &self.tls) {
            (Some("https"), Some(tls)) => {
                let name = self.server_name.clone().unwrap_or(host);
                endpoint.tls_config(tls.clone().domain_name(name)).map_err(|error| error.to_string())
            }
            (Some("http"), None) => Ok(endpoint),
            (Some("http"), Some(_)) => Err("it is http://, but `grpc.tls` is set: only https:// is spoken".to_owned()),
            (Some("https"), None) => Err("it is https://, which needs `grpc.tls`".to_owned()),
            _ => Err("it must be http://host:port or https://host:port".to_owned()),
        }
    }
}

impl Connector for TcpConnector {
    fn channel(&self, node: &NodeRecord) -> Result<Channel, BadAddress> {
        let endpoint = self.endpoint(&node.address).map_err(|reason| BadAddress::new(node.node.clone(), reason))?;
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_lazy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(tls: bool, address: &str) -> String {
        let connector = TcpConnector::new(tls.then(ClientTlsConfig::new), None);
        connector.endpoint(address).expect_err("cannot be used")
    }

    #[test]
    fn an_address_is_spoken_to_as_the_settings_say_and_not_as_it_says() {
        assert!(refused(true, "http://127.0.0.1:7000").contains("only https://"));
        assert!(refused(false, "https://127.0.0.1:7000").contains("needs `grpc.tls`"));
        for address in ["ftp://host:1", "host:7000", "in this process", ""] {
            refused(false, address);
            refused(true, address);
        }
        assert!(TcpConnector::default().endpoint("http://127.0.0.1:7000").is_ok());
        let tls = TcpConnector::new(Some(ClientTlsConfig::new()), None);
        for address in ["https://127.0.0.1:7000", "https://[::1]:7000", "https://sfu-1.example:7000"] {
            assert!(tls.endpoint(address).is_ok(), "{address}");
        }
    }

    #[test]
    fn a_silent_cut_is_noticed_within_six_seconds() {
        assert!(KEEP_ALIVE_INTERVAL + KEEP_ALIVE_TIMEOUT < Duration::from_secs(6));
    }
}
