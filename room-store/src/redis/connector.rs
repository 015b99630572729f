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
    /// The master that sentinels name is none, or none any more.
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
                    let mut connection = open(&self.access.client(&master)?, on_push).await?;
                    // Sentinels may not know yet that it is none any more.
                    if is_master(&mut connection).await? {
                        Ok(connection)
                    } else {
                        Err(ConnectError::NotMaster(master))
                    }
                }
            }
        };
        tokio::time::timeout(CONNECT, connecting).await.map_err(|_| ConnectError::TimedOut)?
    }

    /// All sentinels are asked at once: one that hangs holds nobody up.
    async fn find_master(&self, sentinels: &[Address], service: &str) -> Result<Address, ConnectError> {
        let mut asked: FuturesUnordered<_> = sentinels.iter().map(|sentinel| self.ask(sentinel, service)).collect();
        while let Some(named) = asked.next().await {
            if let Ok(Some(master)) = named {
                return Ok(master);
            }
        }
        Err(ConnectError::NoMaster(service.to_owned()))
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
