//! The header that a load balancer of TCP connections puts before what its client sends (PROXY protocol, version 2): who that client is.
//! It is read of connections of trusted proxies alone, and taken off. Who is not trusted and sends one has sent no HTTP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::response::Response;
use http::request::Parts;
use ppp::v2::{Addresses, Command, Header};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a header begins with. Neither a request of HTTP nor a handshake of TLS begins with its first byte.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Of a header's part with a length of its own: the signature, version and command, family, and the length of what follows.
const FIXED: usize = 16;
/// Bytes that may follow: addresses and what a balancer adds to them (AWS: the id of an endpoint). 536 is what the protocol asks everyone to take.
const MAX_FOLLOWING: usize = 1_024;
/// How long a proxy may take for its header, which it sends with the first packet.
const HEADER_TIME: Duration = Duration::from_secs(5);

/// The client that a proxy's connection is for, if its header named one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proxied(pub(crate) Option<IpAddr>);

/// Reads the header, if there is one, and nothing of what follows it. Headers for the proxy's own use (`LOCAL`, as in its health checks), and
/// those of connections that have no IP address, name nobody.
pub(crate) async fn read(stream: &mut TcpStream) -> io::Result<Proxied> {
    timeout(HEADER_TIME, read_header(stream)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn read_header(stream: &mut TcpStream) -> io::Result<Proxied> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 || first[0] != SIGNATURE[0] {
        return Ok(Proxied(None));
    }
    let mut header = vec![0; FIXED];
    stream.read_exact(&mut header).await?;
    let following = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if !header.starts_with(SIGNATURE) || following > MAX_FOLLOWING {
        return Err(io::Error::other("not a PROXY header that is taken here"));
    }
    header.resize(FIXED + following, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    let header = Header::try_from(header.as_slice()).map_err(|error| io::Error::other(format!("{error:?}")))?;
    let client = match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(of)) => Some(IpAddr::V4(of.source_address)),
        (Command::Proxy, Addresses::IPv6(of)) => Some(IpAddr::V6(of.source_address)),
        (Command::Local, _) | (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => None,
    };
    Ok(Proxied(client))
}

/// Who a request's connection comes from: its socket's other end, or whom a trusted proxy there says that it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) IpAddr);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        if let Some(Proxied(Some(client))) = parts.extensions.get() {
            return Ok(Self(*client));
        }
        match ConnectInfo::<SocketAddr>::from_request_parts(parts, state).await {
            Ok(ConnectInfo(socket)) => Ok(Self(socket.ip())),
            Err(rejection) => Err(axum::response::IntoResponse::into_response(rejection)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const HTTP: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    /// What is read of a connection that sends this, and what is left of it.
    async fn read_of(sent: &[u8]) -> io::Result<(Option<IpAddr>, Vec<u8>)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (mut stream, _) = listener.accept().await.expect("accepted");
        client.write_all(sent).await.expect("taken");
        drop(client);
        let Proxied(client) = read(&mut stream).await?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.expect("readable");
        Ok((client, rest))
    }

    /// A header by the protocol's own description (section 2.2), with `HTTP` behind it.
    fn header(version_command: u8, family: u8, following: &[u8]) -> Vec<u8> {
        let length = u16::try_from(following.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[version_command, family], &length, following, HTTP].concat()
    }

    fn client(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_is_taken_off() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        assert_eq!(read_of(&header(0x21, 0x11, &v4)).await.expect("read"), (Some(client("192.0.2.7")), HTTP.to_vec()));
        let v6 =
            [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9][..], &[0; 16], &[0x12, 0x34, 0, 80]].concat();
        assert_eq!(
            read_of(&header(0x21, 0x21, &v6)).await.expect("read"),
            (Some(client("2001:db8::9")), HTTP.to_vec())
        );
        // As AWS writes it: with the endpoint's id (type 0xEA) behind the addresses.
        let with_more = [&v4[..], &[0xea, 0, 5, 1, b'v', b'p', b'c', b'e']].concat();
        assert_eq!(read_of(&header(0x21, 0x11, &with_more)).await.expect("read").0, Some(client("192.0.2.7")));
    }

    #[tokio::test]
    async fn health_checks_and_connections_without_a_header_name_nobody() {
        for sent in [header(0x20, 0x00, &[]), header(0x20, 0x11, &[0; 12]), header(0x21, 0x00, &[]), HTTP.to_vec()] {
            assert_eq!(read_of(&sent).await.expect("read"), (None, HTTP.to_vec()));
        }
        assert_eq!(read_of(b"").await.expect("read"), (None, Vec::new()));
    }

    #[tokio::test]
    async fn what_begins_like_a_header_and_is_none_ends_the_connection() {
        let long = header(0x21, 0x11, &[0; MAX_FOLLOWING + 1]);
        let short = header(0x21, 0x11, &[1, 2, 3, 4]);
        let old = header(0x11, 0x11, &[0; 12]);
        let cut = &header(0x21, 0x11, &[0; 12])[..20];
        for sent in [&long[..], &short[..short.len()], &old[..], b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"\r\n", cut] {
            read_of(sent).await.expect_err("refused");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_says_nothing_is_waited_for_no_longer_than_a_header_may_take() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let _client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let begun = tokio::time::Instant::now();
        assert_eq!(read(&mut stream).await.expect_err("too late").kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed(), HEADER_TIME);
    }
}
