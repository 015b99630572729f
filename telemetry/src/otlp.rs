//! Traces to an OpenTelemetry collector: which, and how many of them.

use serde::{Deserialize, Serialize};

use crate::settings::Contradiction;

/// The keys below `otlp`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpSettings {
    /// `http://host:port` of a collector's gRPC receiver, or `https://`. Absent: traces are only ids in the log.
    pub endpoint: Option<String>,
    /// Which part of all traces is exported, from 0 to 1.
    pub ratio: f64,
}

impl Default for OtlpSettings {
    fn default() -> Self {
        Self { endpoint: None, ratio: 1.0 }
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
            if !matches!(scheme, Some("http" | "https")) {
                return Err(Contradiction::new("otlp.endpoint", "must be http://host:port or https://host:port"));
            }
        }
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(Contradiction::new("otlp.ratio", "must be from 0 to 1"));
        }
        Ok(())
    }
}
