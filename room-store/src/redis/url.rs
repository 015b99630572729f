//! Where a Redis is and how it is built, as one URL:
//!
//! | | |
//! |---|---|
//! | `redis://[user:password@]host[:6379][/db]` | one server |
//! | `redis-sentinel://[user:password@]host[:26379],…/service[/db]` | the master that sentinels name; user and password are the servers', not the sentinels' |
//! | `redis-cluster://[user:password@]host[:6379],…` | a Redis Cluster, known from any of these |
//!
//! With `rediss` in place of `redis` all connections are TLS. User and password may be percent-encoded. What is said is only
//! read here; nobody is connected to.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;

/// Most addresses of one URL: more than anybody lists by hand.
const MAX_ADDRESSES: usize = 64;

/// Why a text is no such URL. Never says the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisUrlError {
    /// Not one of the schemes.
    #[error("the scheme is none of redis, redis-sentinel, redis-cluster, nor one of them with rediss")]
    Scheme,
    /// No host.
    #[error("there is no host")]
    NoHost,
    /// A host that can't be read.
    #[error("{0:?} is no host[:port]")]
    Host(String),
    /// More than one host of a single server, or too many.
    #[error("there are too many hosts")]
    TooManyHosts,
    /// Not a user, not a password.
    #[error("user or password can't be decoded")]
    Credentials,
    /// No service's name where sentinels need one.
    #[error("the path is not /service or /service/db")]
    Service,
    /// A database that is none.
    #[error("the path is not a database's number")]
    Database,
    /// A cluster has only database 0.
    #[error("a cluster takes no path")]
    ClusterPath,
    /// `?` or `#`.
    #[error("there is a query or a fragment, which mean nothing here")]
    Query,
}

/// A host, by name or number, and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Name or number, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How the servers are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single(Address),
    /// Sentinels that name the master of a service.
    Sentinel {
        /// Where the sentinels are.
        sentinels: Vec<Address>,
        /// What they call the master.
        service: String,
    },
    /// A cluster, and some of its nodes.
    Cluster(Vec<Address>),
}

/// A Redis, and who to be there.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// How it is built.
    pub topology: Topology,
    /// Whether connections are TLS.
    pub tls: bool,
    /// The user; none means Redis' default one.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The database; 0 in a cluster.
    pub database: i64,
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<Self, RedisUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlError::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(RedisUrlError::Query);
        }
        let (tls, kind) = match scheme.strip_prefix("rediss") {
            Some(kind) => (true, kind),
            None => (false, scheme.strip_prefix("redis").ok_or(RedisUrlError::Scheme)?),
        };
        let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(who, rest)| (Some(who), rest));
        let (username, password) = credentials.map(parse_credentials).transpose()?.unwrap_or_default();
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (topology, database) = match kind {
            "" => {
                let mut addresses = parse_addresses(hosts, 6379)?;
                let address = addresses.pop().filter(|_| addresses.is_empty()).ok_or(RedisUrlError::TooManyHosts)?;
                (Topology::Single(address), parse_database(path)?)
            }
            "-sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                let service = decode(service).ok().filter(|name| !name.is_empty() && !name.contains(char::is_control));
                let service = service.ok_or(RedisUrlError::Service)?;
                let sentinels = parse_addresses(hosts, 26379)?;
                (Topology::Sentinel { sentinels, service }, parse_database(database)?)
            }
            "-cluster" if path.is_empty() => (Topology::Cluster(parse_addresses(hosts, 6379)?), 0),
            "-cluster" => return Err(RedisUrlError::ClusterPath),
            _ => return Err(RedisUrlError::Scheme),
        };
        Ok(Self { topology, tls, username, password, database })
    }
}

/// `user:password`, `:password`, or only `user`.
fn parse_credentials(text: &str) -> Result<(Option<String>, Option<String>), RedisUrlError> {
    let (user, password) = text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let user = decode(user)?;
    Ok(((!user.is_empty()).then_some(user), password.map(decode).transpose()?))
}

fn decode(text: &str) -> Result<String, RedisUrlError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| RedisUrlError::Credentials)?;
    Ok(text.into_owned())
}

fn parse_addresses(text: &str, port: u16) -> Result<Vec<Address>, RedisUrlError> {
    if text.is_empty() {
        return Err(RedisUrlError::NoHost);
    }
    let addresses: Vec<_> = text.split(',').map(|part| Address::parse(part, port)).collect::<Result<_, _>>()?;
    if addresses.len() > MAX_ADDRESSES { Err(RedisUrlError::TooManyHosts) } else { Ok(addresses) }
}

fn parse_database(text: &str) -> Result<i64, RedisUrlError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse::<u32>().map(i64::from).map_err(|_| RedisUrlError::Database)
}

impl Address {
    fn parse(text: &str, default_port: u16) -> Result<Self, RedisUrlError> {
        let bad = || RedisUrlError::Host(text.to_owned());
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(bad)?;
                (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")).ok_or_else(bad)?)
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let port = if port.is_empty() { default_port } else { port.parse().map_err(|_| bad())? };
        let is_part_of_a_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if host.is_empty() || port == 0 || !host.chars().all(is_part_of_a_host) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for RedisUrl {
    /// Fit for a log: without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, addresses) = match &self.topology {
            Topology::Single(address) => ("", std::slice::from_ref(address)),
            Topology::Sentinel { sentinels, .. } => ("-sentinel", &sentinels[..]),
            Topology::Cluster(nodes) => ("-cluster", &nodes[..]),
        };
        write!(f, "{}{kind}://", if self.tls { "rediss" } else { "redis" })?;
        if self.username.is_some() || self.password.is_some() {
            let masked = if self.password.is_some() { ":***" } else { "" };
            write!(f, "{}{masked}@", self.username.as_deref().unwrap_or_default())?;
        }
        for (index, address) in addresses.iter().enumerate() {
            write!(f, "{}{address}", if index == 0 { "" } else { "," })?;
        }
        if let Topology::Sentinel { service, .. } = &self.topology {
            write!(f, "/{service}")?;
        }
        if self.database != 0 { write!(f, "/{}", self.database) } else { Ok(()) }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> RedisUrl {
        text.parse().expect("a URL")
    }

    fn address(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn one_server_is_read_with_and_without_what_may_be_left_out() {
        let short = parse("redis://localhost");
        assert_eq!(short.topology, Topology::Single(address("localhost", 6379)));
        assert_eq!((short.tls, short.username, short.password, short.database), (false, None, None, 0));
        let long = parse("rediss://me:p%40ss%3Aword@[::1]:7000/3");
        assert_eq!(long.topology, Topology::Single(address("::1", 7000)));
        assert_eq!((long.tls, long.database), (true, 3));
        assert_eq!((long.username.as_deref(), long.password.as_deref()), (Some("me"), Some("p@ss:word")));
        assert_eq!(parse("redis://:word@h").password.as_deref(), Some("word"));
    }

    #[test]
    fn sentinels_and_clusters_are_read() {
        let Topology::Sentinel { sentinels, service } = parse("redis-sentinel://a,b:1,[::2]/main/2").topology else {
            panic!("sentinels")
        };
        assert_eq!(
            (sentinels, service.as_str()),
            (vec![address("a", 26379), address("b", 1), address("::2", 26379)], "main")
        );
        let cluster = parse("rediss-cluster://a:1,b:2/");
        assert_eq!((cluster.topology, cluster.tls), (Topology::Cluster(vec![address("a", 1), address("b", 2)]), true));
    }

    #[test]
    fn what_is_shown_holds_no_password_and_reads_the_same() {
        for text in ["redis://h:6379", "rediss-sentinel://a:1,[::1]:2/main/2", "redis-cluster://a:1,b:2"] {
            assert_eq!(parse(text).to_string(), text);
        }
        let shown = format!("{0} {0:?}", parse("redis://me:secret@h"));
        assert!(shown.contains("me:***@h:6379") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_is_no_such_url_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", RedisUrlError::Scheme),
            ("localhost:6379", RedisUrlError::Scheme),
            ("http://localhost", RedisUrlError::Scheme),
            ("redis-cluster2://localhost", RedisUrlError::Scheme),
            ("redis://", RedisUrlError::NoHost),
            ("redis://a,b", RedisUrlError::TooManyHosts),
            ("redis://a:0", RedisUrlError::Host("a:0".to_owned())),
            ("redis://a:70000", RedisUrlError::Host("a:70000".to_owned())),
            ("redis://::1", RedisUrlError::Host("::1".to_owned())),
            ("redis://[::1", RedisUrlError::Host("[::1".to_owned())),
            ("redis://a b", RedisUrlError::Host("a b".to_owned())),
            ("redis://a/x", RedisUrlError::Database),
            ("redis://a/-1", RedisUrlError::Database),
            ("redis://a?db=1", RedisUrlError::Query),
            ("redis://%ff@a", RedisUrlError::Credentials),
            ("redis-sentinel://a", RedisUrlError::Service),
            ("redis-sentinel://a//1", RedisUrlError::Service),
            ("redis-cluster://a,/", RedisUrlError::Host(String::new())),
            ("redis-cluster://a/1", RedisUrlError::ClusterPath),
        ] {
            assert_eq!(text.parse::<RedisUrl>(), Err(reason), "{text}");
        }
    }
}
