//! What a WebSocket upgrade request says: who connects, with which token, speaking what (signalling contract, section 1).
//! Reads only; what becomes of it is decided in `ws`.

use http::{HeaderMap, header};
use proto::ids::{IdError, PeerId, RegionId};

/// The one subprotocol that is ever chosen.
pub(crate) const PROTOO: &str = "protoo";
/// What a subprotocol that is really a token begins with. Such an offer is never echoed.
const BEARER_PROTOCOL: &str = "bearer.";
/// What an `Authorization` header with a token begins with, in any case (RFC 6750, RFC 9110 section 11.1).
const BEARER_SCHEME: &str = "bearer ";

/// An upgrade request, read.
#[derive(Debug)]
pub(crate) struct Knock {
    pub(crate) peer: Result<PeerId, IdError>,
    /// Where the client says it is (`region`); `None`: it does not say.
    pub(crate) region: Result<Option<RegionId>, IdError>,
    pub(crate) token: Option<String>,
    /// Whether `protoo` is among the subprotocols offered: then it has to be chosen.
    pub(crate) offers_protoo: bool,
}

/// Reads query and headers of an upgrade request.
pub(crate) fn read(query: &[(String, String)], headers: &HeaderMap) -> Knock {
    let peer = parameter(query, "peer").or_else(|| parameter(query, "peerId")).unwrap_or_default();
    Knock {
        peer: PeerId::new(peer),
        region: parameter(query, "region").map(RegionId::new).transpose(),
        token: token(query, headers),
        offers_protoo: protocols(headers).any(|protocol| protocol == PROTOO),
    }
}

/// The access token of a request: header, query, then subprotocol.
pub(crate) fn token(query: &[(String, String)], headers: &HeaderMap) -> Option<String> {
    authorization(headers)
        .or_else(|| parameter(query, "access_token"))
        .or_else(|| protocols(headers).find_map(|protocol| protocol.strip_prefix(BEARER_PROTOCOL)))
        .map(str::to_owned)
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The token of an `Authorization` header.
pub(crate) fn authorization(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let scheme = value.get(..BEARER_SCHEME.len())?;
    scheme.eq_ignore_ascii_case(BEARER_SCHEME).then(|| value[BEARER_SCHEME.len()..].trim())
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knock(query: &[(&str, &str)], headers: &[(&'static str, &str)]) -> Knock {
        let query: Vec<_> = query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().expect("a header value")));
        read(&query, &headers.collect())
    }

    #[test]
    fn the_peer_is_read_from_either_name() {
        let peer = |query| knock(query, &[]).peer.ok().map(|peer| peer.to_string());
        assert_eq!(peer(&[("peer", "ann")]).as_deref(), Some("ann"));
        assert_eq!(peer(&[("roomId", "r"), ("peerId", "ann")]).as_deref(), Some("ann"));
        assert_eq!(peer(&[("peerId", "bob"), ("peer", "ann")]).as_deref(), Some("ann"));
        assert_eq!(peer(&[]), None);
        assert_eq!(peer(&[("peer", "a/b")]), None);
    }

    #[test]
    fn the_region_is_read_if_it_is_named() {
        let region =
            |query: &[(&str, &str)]| knock(query, &[]).region.map(|region| region.map(|region| region.to_string()));
        assert_eq!(region(&[("region", "eu-1")]), Ok(Some("eu-1".to_owned())));
        assert_eq!(region(&[]), Ok(None));
        let long = "x".repeat(10_000);
        for bad in ["", "a b\n", long.as_str()] {
            assert!(region(&[("region", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_token_is_the_first_found() {
        let everywhere = [("authorization", "bEaReR  head "), ("sec-websocket-protocol", "protoo, bearer.proto")];
        assert_eq!(knock(&[("access_token", "query")], &everywhere).token.as_deref(), Some("head"));
        assert_eq!(knock(&[("access_token", "query")], &everywhere[1..]).token.as_deref(), Some("query"));
        assert_eq!(knock(&[], &everywhere[1..]).token.as_deref(), Some("proto"));
        assert_eq!(knock(&[], &[("authorization", "Basic abc")]).token, None);
        assert_eq!(knock(&[], &[("authorization", "Bear")]).token, None);
    }

    #[test]
    fn protoo_is_noticed_among_others() {
        assert!(knock(&[], &[("sec-websocket-protocol", "bearer.x,protoo")]).offers_protoo);
        assert!(!knock(&[], &[("sec-websocket-protocol", "bearer.x, protoo2")]).offers_protoo);
        assert!(!knock(&[], &[]).offers_protoo);
    }
}
