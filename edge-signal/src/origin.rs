//! Whose pages may talk to an edge that asks nobody for a token. Such an edge listens on loopback only, but any web site open
//! in a browser of this machine reaches that, too: by a request with its own `Origin`, or by a name of its own that resolves
//! to loopback (DNS rebinding). So both the page and the name it used must be of this machine.

use std::net::IpAddr;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri, header};

/// What a stranger is told.
const REFUSAL: &str = "only pages of this machine: set auth.hs256_secret, or auth.insecure_no_auth to let everybody in";

/// Refuses requests that come from other machines' pages, or to other machines' names.
///
/// A request without `Origin` comes from no page's script, or from the page served here.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), &'static str> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let origin = text(header::ORIGIN).is_none_or(|origin| {
        origin.parse::<Uri>().is_ok_and(|uri| uri.scheme().is_some() && uri.host().is_some_and(is_of_this_machine))
    });
    let host = text(header::HOST)
        .is_none_or(|host| host.parse::<Authority>().is_ok_and(|authority| is_of_this_machine(authority.host())));
    if origin && host { Ok(()) } else { Err(REFUSAL) }
}

/// The same as a layer, for everything but `/ws`, whose clients can only be told after the upgrade.
pub(crate) async fn local_only(request: Request, next: Next) -> Response {
    match check(request.headers()) {
        Err(reason) if request.uri().path() != "/ws" => (StatusCode::FORBIDDEN, format!("{reason}\n")).into_response(),
        _ => next.run(request).await,
    }
}

/// `localhost` and names below it never leave the machine (RFC 6761, section 6.3).
pub(crate) fn is_of_this_machine(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: Option<&str>, host: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::ORIGIN, origin), (header::HOST, host)] {
            if let Some(value) = value {
                headers.insert(name, value.parse().expect("a header value"));
            }
        }
        check(&headers).is_ok()
    }

    #[test]
    fn pages_and_names_of_this_machine_are_let_in() {
        for origin in [
            "http://localhost:5173",
            "https://LOCALHOST",
            "http://127.0.0.1:8080",
            "http://[::1]:1",
            "http://app.localhost",
        ] {
            assert!(allowed(Some(origin), Some("127.0.0.1:8080")), "{origin}");
        }
        for host in ["localhost", "localhost:8080", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]", "localhost."] {
            assert!(allowed(None, Some(host)), "{host}");
        }
        assert!(allowed(None, None), "no browser sends that");
    }

    #[test]
    fn others_are_not() {
        for origin in [
            "https://evil.example",
            "null",
            "",
            "file://",
            "http://localhost.evil.example",
            "http://192.0.2.1",
            "localhost",
            "http://127.0.0.1.evil.example",
        ] {
            assert!(!allowed(Some(origin), Some("localhost:8080")), "{origin}");
        }
        for host in ["evil.example:8080", "192.0.2.1:8080", "localhost.evil.example", "", "notlocalhost", "[::2]"] {
            assert!(!allowed(None, Some(host)), "{host}");
        }
    }
}
