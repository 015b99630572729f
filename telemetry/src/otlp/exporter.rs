//! The exporter, over OTLP by gRPC. Its queue is bounded, its thread is its own, and what finds no room is dropped.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};

use super::Step;
use crate::logs::Service;
use crate::trace::Kind;

/// Steps that wait to be exported, each some 500 bytes: what an edge does in a second or two.
const WAITING: usize = 8_192;

/// Steps in one message.
const BATCH: usize = 1_024;

/// How long steps gather.
const GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take for a message; until then the next ones wait in the queue.
const TIMEOUT: Duration = Duration::from_secs(5);

static PROCESSOR: OnceLock<BatchSpanProcessor> = OnceLock::new();

pub(super) fn start(endpoint: &str, ca: Option<&Path>, service: &Service) -> Result<(), String> {
    let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(TIMEOUT);
    if let Some(ca) = ca {
        let pem = std::fs::read(ca).map_err(|error| format!("{}: {error}", ca.display()))?;
        exporter = exporter.with_tls_config(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)));
    }
    let exporter = exporter.build().map_err(|error| error.to_string())?;
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(GATHER)
        .build();
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    processor.set_resource(
        &Resource::builder_empty()
            .with_service_name(service.name)
            .with_attribute(KeyValue::new("service.version", service.version))
            .with_attribute(KeyValue::new("service.instance.id", service.id.clone()))
            .build(),
    );
    PROCESSOR.set(processor).map_err(|_| "traces are exported already".to_owned())
}

pub(super) fn export(step: Step) {
    let Some(processor) = PROCESSOR.get() else { return };
    let span_context = SpanContext::new(
        TraceId::from(step.id),
        SpanId::from(step.span),
        TraceFlags::SAMPLED,
        false,
        TraceState::default(),
    );
    processor.on_end(SpanData {
        span_context,
        parent_span_id: step.parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: false,
        span_kind: match step.kind {
            Kind::Server => SpanKind::Server,
            Kind::Internal => SpanKind::Internal,
        },
        name: step.name.into(),
        start_time: step.started,
        end_time: step.ended,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("sluice").build(),
    });
}

pub(super) fn end(within: Duration) {
    if let Some(processor) = PROCESSOR.get() {
        // A collector that is away is not waited for: the process ends.
        let _ = processor.shutdown_with_timeout(within);
    }
}
