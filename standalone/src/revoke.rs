//! `sluice revoke`: withdraws a peer's access, or one token's, at an edge's operators' address. That edge tells all others of its
//! deployment.

use std::time::{Duration, SystemTime};

use anyhow::{Context, bail, ensure};
use clap::Args;
use edge_signal::https::{Address, Answer, Bounds, HttpsClient};
use edge_signal::settings::AuthSettings;
use proto::ids::PeerId;
use serde_json::{Value, json};
use telemetry::settings::Period;

use crate::token::{KeyFlags, operators_token, token_id};

/// What an edge may take, and its answer's length.
const BOUNDS: Bounds = Bounds { time: Duration::from_secs(15), body: 64 * 1024 };

/// Whose access is withdrawn, and where that is said.
#[derive(Debug, Args)]
pub(crate) struct RevokeFlags {
    #[command(flatten)]
    revoked: RevokedFlags,
    /// How long it holds: as long as the longest-lived token it concerns
    #[arg(long, value_name = "TIME", default_value = "24h")]
    lifetime: Period,
    /// An edge's operators' address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9080", value_parser = address)]
    url: Address,
    /// PEM file with the certificates trusted for an https URL [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<std::path::PathBuf>,
    #[command(flatten)]
    key: KeyFlags,
}

/// One of the two.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RevokedFlags {
    /// All tokens of this peer (uid) that were made until now
    #[arg(long, value_name = "UID")]
    peer: Option<PeerId>,
    /// The one token of this name (jti)
    #[arg(long, value_name = "JTI", value_parser = token_id)]
    token: Option<String>,
}

/// Says it to the edge.
pub(crate) async fn revoke(flags: RevokeFlags, auth: &AuthSettings, now: SystemTime) -> anyhow::Result<()> {
    let RevokeFlags { revoked: RevokedFlags { peer, token }, lifetime, url, ca, key } = flags;
    let body = match (peer, token) {
        (Some(peer), None) => json!({"peer": peer.as_str(), "lifetime": lifetime}),
        (None, Some(token)) => json!({"token": token, "lifetime": lifetime}),
        _ => bail!("one of --peer and --token"),
    };
    let shown = operators_token(&key, auth, now)?;
    let client = HttpsClient::new(ca.as_deref()).context("--ca")?;
    let address = url.with_path("/revoke").context("--url")?;
    let answer = client.post_json(&address, &body, shown.as_deref(), BOUNDS).await;
    let Answer { status, body } = answer.with_context(|| format!("{address} cannot be asked"))?;
    let reason =
        serde_json::from_slice::<Value>(&body).ok().and_then(|it| Some(it["errorReason"].as_str()?.to_owned()));
    ensure!(
        status.is_success(),
        "{address} refuses: {status}{}",
        reason.map(|it| format!(": {it}")).unwrap_or_default()
    );
    Ok(())
}

fn address(text: &str) -> Result<Address, String> {
    Address::new(text).map_err(|error| error.to_string())
}
