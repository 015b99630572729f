//! Calls to nodes say which request they are made for.

use proto::sfu::sfu_node_client::SfuNodeClient;
use telemetry::trace::{TRACEPARENT, Trace};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A node's client.
pub(super) type Client = SfuNodeClient<InterceptedService<Channel, fn(Request<()>) -> Result<Request<()>, Status>>>;

pub(super) fn client(channel: Channel) -> Client {
    SfuNodeClient::with_interceptor(channel, say)
}

#[expect(clippy::unnecessary_wraps, reason = "what an interceptor is")]
fn say(mut request: Request<()>) -> Result<Request<()>, Status> {
    if let Some(trace) = Trace::current()
        && let Ok(value) = MetadataValue::try_from(trace.traceparent())
    {
        request.metadata_mut().insert(TRACEPARENT, value);
    }
    Ok(request)
}
