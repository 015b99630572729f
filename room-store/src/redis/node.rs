//! One server: its connections, how a call on it ends, and its listener.

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use deadpool_redis::redis::{Cmd, ErrorKind, RedisError, ServerErrorKind, Value, cmd};
use tokio::time::{Instant, timeout_at};

use super::{
    connector::Connector,
    lanes::{self, Place, Places},
    listener::{Ear, Listener},
    script::Script,
    url::Address,
};
use crate::error::StoreError;

/// A command that may have to be said in two ways.
pub(super) enum Command<'a> {
    /// A script: by its name, or in full to a server that doesn't know it yet.
    Script { script: &'a Script, keys: &'a [String], arguments: &'a [Cow<'a, str>] },
    /// Any other.
    Plain(&'a Cmd),
}

impl Command<'_> {
    fn pack(&self, in_full: bool) -> Cmd {
        match self {
            Self::Plain(command) => (*command).clone(),
            Self::Script { script, keys, arguments } => {
                let mut command = if in_full { cmd("EVAL") } else { cmd("EVALSHA") };
                command.arg(if in_full { &script.text } else { &script.sha }).arg(keys.len());
                for key in *keys {
                    command.arg(key);
                }
                for argument in *arguments {
                    command.arg(&**argument);
                }
                command
            }
        }
    }
}

/// How a call on a server can end but with an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing was done: the server can't be reached, or refuses.
    Undone,
    /// Nothing was done, but might be if the server, or another, were asked again soon.
    Later,
    /// Nothing was done: the slot is another server's.
    Moved(Address),
    /// Nothing was done: for this once another server is to be asked.
    Ask(Address),
    /// No answer: whether anything was done is not known.
    Unknown,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        if failure == Failure::Unknown { Self::Timeout } else { Self::Unavailable }
    }
}

/// One server, or the master that sentinels name.
pub(super) struct Node {
    /// Its address, without secrets.
    name: String,
    connector: Arc<Connector>,
    places: Places,
    reachable: AtomicBool,
    listener: OnceLock<Listener>,
}

impl Node {
    pub(super) fn new(name: String, connector: Connector, connections: usize) -> Self {
        let connector = Arc::new(connector);
        let places = lanes::places(Arc::clone(&connector), connections);
        Self { name, connector, places, reachable: AtomicBool::new(true), listener: OnceLock::new() }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What listens to it, from the first time that it is asked for.
    pub(super) fn listener(&self, ear: &Arc<Ear>) -> &Listener {
        let start = || Listener::start(self.name.clone(), Arc::clone(&self.connector), Arc::downgrade(ear));
        self.listener.get_or_init(start)
    }

    /// Has the server carry out a command. `asking`: it said so itself, in place of the slot's present server.
    pub(super) async fn call(&self, command: &Command<'_>, asking: bool, deadline: Instant) -> Result<Value, Failure> {
        let place = match timeout_at(deadline, lanes::take(&self.places)).await {
            Ok(Ok(place)) => place,
            Ok(Err(error)) => {
                self.note_unreachable(&error);
                return Err(Failure::Undone);
            }
            Err(_) => {
                self.note_unreachable(&"no place on a connection in time");
                return Err(Failure::Undone);
            }
        };
        let answer = self.send(&place, command, false, asking, deadline).await;
        match answer {
            Err(Refusal::NoScript) => {
                let again = self.send(&place, command, true, asking, deadline).await;
                again.map_err(|refusal| self.failure(refusal))
            }
            answer => answer.map_err(|refusal| self.failure(refusal)),
        }
    }

    async fn send(
        &self,
        place: &Place,
        command: &Command<'_>,
        in_full: bool,
        asking: bool,
        deadline: Instant,
    ) -> Result<Value, Refusal> {
        let mut connection = place.connection.clone();
        let packed = command.pack(in_full);
        let sent = async {
            if asking {
                let mut both = deadpool_redis::redis::pipe();
                both.cmd("ASKING").ignore().add_command(packed);
                let (answer,) = both.query_async::<(Value,)>(&mut connection).await?;
                Ok(answer)
            } else {
                packed.query_async::<Value>(&mut connection).await
            }
        };
        match timeout_at(deadline, sent).await {
            Ok(Ok(answer)) => {
                self.note_reachable();
                Ok(answer)
            }
            Ok(Err(error)) => {
                let refusal = Refusal::of(error);
                if matches!(refusal, Refusal::Cut | Refusal::ReadOnly) {
                    place.give_up();
                }
                Err(refusal)
            }
            Err(_) => {
                place.give_up();
                Err(Refusal::Cut)
            }
        }
    }

    fn failure(&self, refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Moved(address) => Failure::Moved(address),
            Refusal::Ask(address) => Failure::Ask(address),
            Refusal::Later | Refusal::ReadOnly => Failure::Later,
            Refusal::Cut => {
                self.note_unreachable(&"no answer in time");
                Failure::Unknown
            }
            Refusal::NoScript => Failure::Undone,
            Refusal::Refused(error) => {
                self.note_unreachable(&error);
                Failure::Undone
            }
            Refusal::Broken(error) => {
                tracing::error!(redis = %self.name, %error, "a script of the room store failed");
                Failure::Unknown
            }
        }
    }

    fn note_unreachable(&self, why: &dyn std::fmt::Display) {
        if self.reachable.swap(false, Ordering::Relaxed) {
            tracing::warn!(redis = %self.name, %why, "Redis can't be used");
        }
    }

    fn note_reachable(&self) {
        if !self.reachable.load(Ordering::Relaxed) && !self.reachable.swap(true, Ordering::Relaxed) {
            tracing::info!(redis = %self.name, "Redis can be used again");
        }
    }
}

/// What a server says in place of an answer.
enum Refusal {
    NoScript,
    /// A failover has made it a replica.
    ReadOnly,
    /// It loads, or its cluster is in disorder.
    Later,
    Moved(Address),
    Ask(Address),
    /// It refuses before anything is done: no memory, no permission, too few replicas.
    Refused(RedisError),
    /// A script stopped half-way, which none may.
    Broken(RedisError),
    /// The connection ended, or nothing came.
    Cut,
}

impl Refusal {
    fn of(error: RedisError) -> Self {
        let redirected = || {
            let (address, _) = error.redirect_node()?;
            let (host, port) = address.rsplit_once(':')?;
            Some(Address { host: host.to_owned(), port: port.parse().ok()? })
        };
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::NoScript,
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            ErrorKind::Server(ServerErrorKind::Moved) => redirected().map_or(Self::Later, Self::Moved),
            ErrorKind::Server(ServerErrorKind::Ask) => redirected().map_or(Self::Later, Self::Ask),
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown,
            ) => Self::Later,
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Refused(error),
            ErrorKind::Server(_) => Self::Broken(error),
            _ => match error.code() {
                Some("OOM" | "NOREPLICAS" | "MISCONF" | "NOAUTH" | "WRONGPASS") => Self::Refused(error),
                Some("BUSY") => Self::Later,
                Some(_) => Self::Broken(error),
                None => Self::Cut,
            },
        }
    }
}
