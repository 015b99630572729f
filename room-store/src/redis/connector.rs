//! Connecting to a server: at an address, or to the master that sentinels name.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisConnectionInfo, RedisError, TlsCertificates, Value, aio::MultiplexedConnection, cmd, io::tcp::TcpSettings,
};
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    config::{Certificates, RedisConfigError},
    url::{Address, RedisUrl},
};

/// A connection that is not there after this long will hardly come: another one is tried then. Longer than calls wait, so that
/// one that takes a little longer is there for the next call.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ConnectError {
    /// The server can't be reached, or doesn't want us.
    #[error("{0}")]
    Server(RedisError),
    /// No sentinel names a master.
    #[error("no sentinel names a master of {0:?}")]
    NoMaster(String),
    /// What sentinels name is no master, or none any more.
    #[error("{0} is no master")]
    NotMaster(Address),
    /// Nothing happened.
    #[error("connecting takes too long")]
    TimedOut,
}

impl From<RedisError> for ConnectError {
    fn from(error: RedisError) -> Self {
        Self::Server(error)
    }
}

/// What a connection is made with.
#[derive(Clone)]
pub(super) struct Access {
    tls: bool,
    certificates: Option<TlsCertificates>,
    server: RedisConnectionInfo,
}

impl Access {
    /// Checks certificates by preparing a client with them.
    pub(super) fn new(url: &RedisUrl, certificates: Certificates) -> Result<Self, RedisConfigError> {
        let mut server = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3).set_db(url.database);
        if let Some(username) = &url.username {
            server = server.set_username(username);
        }
        if let Some(password) = &url.password {
            server = server.set_password(password);
        }
        let Certificates { ca, identity } = certificates;
        let client_tls = identity.map(|(client_cert, client_key)| ClientTlsConfig { client_cert, client_key });
        let certificates = url.tls.then_some(TlsCertificates { client_tls, root_cert: ca });
        if url.tls {
            // Fails when the program has chosen one already, which is as well.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let access = Self { tls: url.tls, certificates, server };
        let nobody = Address { host: "localhost".to_owned(), port: 1 };
        access.client(&nobody).map_err(|error| RedisConfigError::Certificates(error.to_string()))?;
        Ok(access)
    }

    fn client(&self, address: &Address) -> Result<Client, RedisError> {
        self.client_as(address, self.server.clone())
    }

    fn client_as(&self, Address { host, port }: &Address, who: RedisConnectionInfo) -> Result<Client, RedisError> {
        let host = host.clone();
        let address = if self.tls {
            ConnectionAddr::TcpTls { host, port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, *port)
        };
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = address.into_connection_info()?.set_redis_settings(who).set_tcp_settings(tcp);
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone()),
            None => Client::open(info),
        }
    }
}

/// Whom to connect to.
#[derive(Debug, Clone)]
pub(super) enum Target {
    /// The server there.
    Server(Address),
    /// The master of a service.
    Master {
        /// Whom to ask.
        sentinels: Vec<Address>,
        /// What they call it.
        service: String,
    },
}

/// Connects to one server, or to whoever is the master.
pub(super) struct Connector {
    pub(super) access: Access,
    pub(super) target: Target,
}

/// Told of what the server says by itself, and of the connection's end.
pub(super) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

impl Connector {
    /// A new connection.
    pub(super) async fn connect(&self, on_push: OnPush) -> Result<MultiplexedConnection, ConnectError> {
        let connecting = async {
            match &self.target {
                Target::Server(address) => Ok(open(&self.access.client(address)?, on_push).await?),
                Target::Master { sentinels, service } => {
                    let master = self.find_master(sentinels, service).await?;
                    Ok(open(&self.access.client(&master)?, on_push).await?)
                }
            }
        };
        tokio::time::timeout(CONNECT, connecting).await.map_err(|_| ConnectError::TimedOut)?
    }

    /// All sentinels are asked at once, and all servers they name: one that hangs, or is behind the times, holds nobody up.
    async fn find_master(&self, sentinels: &[Address], service: &str) -> Result<Address, ConnectError> {
        let mut asked: FuturesUnordered<_> = sentinels.iter().map(|sentinel| self.ask(sentinel, service)).collect();
        let mut heard_of = Vec::new();
        let mut tried = FuturesUnordered::new();
        let mut failure = ConnectError::NoMaster(service.to_owned());
        loop {
            tokio::select! {
                Some(named) = asked.next() => {
                    if let Ok(Some(server)) = named && !heard_of.contains(&server) {
                        heard_of.push(server.clone());
                        tried.push(self.check_master(server));
                    }
                }
                Some(checked) = tried.next() => match checked {
                    Ok(master) => return Ok(master),
                    Err(error) => failure = error,
                },
                else => return Err(failure),
            }
        }
    }

    /// Sentinels may not know yet that it is none any more.
    async fn check_master(&self, server: Address) -> Result<Address, ConnectError> {
        let mut connection = open(&self.access.client(&server)?, Arc::new(|_| ())).await?;
        if is_master(&mut connection).await? { Ok(server) } else { Err(ConnectError::NotMaster(server)) }
    }

    async fn ask(&self, sentinel: &Address, service: &str) -> Result<Option<Address>, RedisError> {
        let nobody = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        let client = self.access.client_as(sentinel, nobody)?;
        let mut connection = open(&client, Arc::new(|_| ())).await?;
        let named = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(service).query_async(&mut connection).await?;
        let named: Option<(String, u16)> = named;
        Ok(named.map(|(host, port)| Address { host, port }))
    }
}

async fn open(client: &Client, on_push: OnPush) -> Result<MultiplexedConnection, RedisError> {
    let pass_on = move |push| {
        on_push(push);
        Ok::<_, ()>(())
    };
    // Whoever calls has a deadline of its own.
    let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config.set_push_sender(pass_on)).await
}

async fn is_master(connection: &mut MultiplexedConnection) -> Result<bool, RedisError> {
    let role: Vec<Value> = cmd("ROLE").query_async(connection).await?;
    Ok(matches!(role.first(), Some(Value::BulkString(name)) if name == b"master"))
}

#[cfg(test)]
mod tests {
    use servers::Redis;

    use super::*;
    use crate::redis::fake;

    /// A sentinel that names this server, this late.
    async fn sentinel(named: &Redis, late: Duration) -> Address {
        let named = named.port().to_string();
        let answer = move |_, _| {
            let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{named}\r\n", named.len());
            async move {
                tokio::time::sleep(late).await;
                answer
            }
        };
        fake::serve(answer).await
    }

    fn connector(sentinels: Vec<Address>) -> Connector {
        let url: RedisUrl = "redis-sentinel://127.0.0.1:1/main".parse().expect("a URL");
        let access = Access::new(&url, Certificates::default()).expect("none needed");
        Connector { access, target: Target::Master { sentinels, service: "main".to_owned() } }
    }

    #[tokio::test]
    async fn sentinels_behind_the_times_keep_nobody_out() {
        let master = Redis::start().await;
        let replica = Redis::with(&["--replicaof", "127.0.0.1", &master.port().to_string()]).await;
        let hanging = Redis::start().await;
        hanging.pause();
        let stale = [sentinel(&replica, Duration::ZERO).await, sentinel(&hanging, Duration::ZERO).await];
        let right = sentinel(&master, Duration::from_millis(100)).await;
        let mixed = connector(stale.iter().cloned().chain([right]).collect());
        let mut connection = mixed.connect(Arc::new(|_| ())).await.expect("one names the master");
        assert!(is_master(&mut connection).await.expect("it answers"));
        let failure = connector(stale[..1].to_vec()).connect(Arc::new(|_| ())).await.err();
        assert!(matches!(failure, Some(ConnectError::NotMaster(server)) if server.port == replica.port()));
    }
}
