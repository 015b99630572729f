//! Traces to an OpenTelemetry collector: which, and how many of them. What is exported are the steps of requests (`trace.rs`), of
//! traces that are sampled; a collector that is away or slow costs traces, and nothing else.

#[cfg(feature = "otlp")]
mod exporter;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::logs::Service;
use crate::settings::Contradiction;
use crate::trace::Kind;

/// Traces whose first 63 bits are below this are exported: none unless there is a collector.
static SAMPLED_BELOW: AtomicU64 = AtomicU64::new(0);

/// The bits of a trace's id that choose.
const CHOOSING: u64 = u64::MAX >> 1;

/// The keys below `otlp`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpSettings {
    /// `http://host:port` of a collector's gRPC receiver, or with `ca` `https://`. Absent: traces are only ids in the log.
    pub endpoint: Option<String>,
    /// PEM file with the certificates that are trusted for it.
    pub ca: Option<PathBuf>,
    /// Which part of all traces is exported, from 0 to 1.
    pub ratio: f64,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self { endpoint: None, ca: None, ratio: 1.0 }
    }
}

impl OtlpSettings {
    /// Refuses what cannot be used.
    pub fn check(&self) -> Result<(), Contradiction> {
        if let Some(endpoint) = &self.endpoint {
            if !cfg!(feature = "otlp") {
                return Err(Contradiction::new("otlp.endpoint", "this program was built without OpenTelemetry"));
            }
            let address = endpoint.parse::<axum::http::Uri>().ok();
            let scheme = address.as_ref().and_then(axum::http::Uri::scheme_str);
            if !matches!((scheme, &self.ca), (Some("http"), None) | (Some("https"), Some(_))) {
                let reason = "must be http://host:port, or https://host:port with otlp.ca";
                return Err(Contradiction::new("otlp.endpoint", reason));
            }
        } else if self.ca.is_some() {
            return Err(Contradiction::new("otlp.ca", "has no meaning without otlp.endpoint"));
        }
        if let Some(ca) = &self.ca {
            let unread = |error| Contradiction::new("otlp.ca", format!("{}: {error}", ca.display()));
            std::fs::File::open(ca).map_err(unread)?;
        }
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(Contradiction::new("otlp.ratio", "must be from 0 to 1"));
        }
        Ok(())
    }
}

/// A part of a request, done.
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "nobody is told"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) id: u128,
    pub(crate) span: u64,
    pub(crate) parent: Option<u64>,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) started: SystemTime,
    pub(crate) ended: SystemTime,
}

/// Whether this trace is one of those that are exported. Every edge decides alike of the same one.
pub(crate) fn samples(id: u128) -> bool {
    (id as u64 & CHOOSING) < SAMPLED_BELOW.load(Ordering::Relaxed)
}

/// Begins to export, if there is a collector. To be called inside the runtime.
pub(crate) fn start(settings: &OtlpSettings, service: &Service) -> Result<(), String> {
    let Some(endpoint) = &settings.endpoint else { return Ok(()) };
    exporter::start(endpoint, settings.ca.as_deref(), service)?;
    // Rounded to a double's 53 bits; one more than all, for all.
    let below = (settings.ratio * (CHOOSING as f64)) as u64;
    SAMPLED_BELOW.store(if settings.ratio >= 1.0 { u64::MAX } else { below }, Ordering::Relaxed);
    Ok(())
}

/// Takes a step; drops it when as many wait as may.
pub(crate) fn export(step: Step) {
    exporter::export(step);
}

/// Exports what waits, within this time or not at all.
pub(crate) fn end(within: Duration) {
    SAMPLED_BELOW.store(0, Ordering::Relaxed);
    exporter::end(within);
}

#[cfg(not(feature = "otlp"))]
mod exporter {
    //! Of a program that is built without OpenTelemetry: nobody is told.

    use std::path::Path;
    use std::time::Duration;

    use super::{Service, Step};

    pub(super) fn start(_: &str, _: Option<&Path>, _: &Service) -> Result<(), String> {
        Err("this program was built without OpenTelemetry".to_owned())
    }

    pub(super) fn export(_: Step) {}

    pub(super) fn end(_: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_refused() {
        let check = |endpoint: Option<&str>, ca: Option<&str>, ratio| {
            let (endpoint, ca) = (endpoint.map(str::to_owned), ca.map(PathBuf::from));
            OtlpSettings { endpoint, ca, ratio }.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(None, None, 0.5), Ok(()));
        for ratio in [-0.1, 1.1, f64::NAN] {
            assert!(check(None, None, ratio).expect_err("none").starts_with("otlp.ratio: "));
        }
        assert!(check(None, Some("/ca.pem"), 1.0).expect_err("alone").starts_with("otlp.ca: "));
        for (endpoint, ca) in [("collector:4317", None), ("https://host:1", None), ("http://host:1", Some("/ca.pem"))] {
            assert!(check(Some(endpoint), ca, 1.0).expect_err(endpoint).starts_with("otlp.endpoint: "));
        }
        let known = check(Some("http://127.0.0.1:4317"), None, 1.0);
        assert_eq!(known.is_ok(), cfg!(feature = "otlp"), "{known:?}");
    }
}
