//! The exporter, over OTLP by gRPC. Its queue is bounded, its thread is its own; what finds no room, and what the collector does not
//! take, is dropped and counted.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter as ExportsSpans, SpanLinks,
    SpanProcessor as _,
};

use super::Step;
use crate::logs::Service;
use crate::metrics::TRACES_DROPPED;
use crate::pace::Pace;
use crate::trace::Kind;

/// Steps that wait to be exported, each some 500 bytes: what an edge does in a second or two.
const WAITING: usize = 8_192;

/// Steps in one message.
const BATCH: usize = 1_024;

/// How long steps gather.
const GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take for a message; until then the next ones wait in the queue.
const TIMEOUT: Duration = Duration::from_secs(5);

/// One line in so long about a collector that does not take what it is sent.
const PACE: Duration = Duration::from_secs(30);

static PROCESSOR: OnceLock<BatchSpanProcessor> = OnceLock::new();

/// Steps that were taken and are neither exported nor lost. The SDK has a bound of its own, and would say nothing of what it drops.
static WAIT: AtomicUsize = AtomicUsize::new(0);

/// Counts what the collector does not take.
#[derive(Debug)]
struct Counted {
    exporter: SpanExporter,
    pace: Pace,
}

impl ExportsSpans for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let steps = batch.len();
        let exported = self.exporter.export(batch).await;
        WAIT.fetch_sub(steps, Ordering::Relaxed);
        if let Err(error) = &exported {
            TRACES_DROPPED.counter(&[("why", "export")]).increment(steps as u64);
            if let Some(unsaid) = self.pace.may_say() {
                tracing::warn!(steps, unsaid, %error, "the collector of traces does not take them");
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

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
    let exporter = Counted { exporter, pace: Pace::new(PACE) };
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
    if WAIT.fetch_add(1, Ordering::Relaxed) >= WAITING {
        WAIT.fetch_sub(1, Ordering::Relaxed);
        metrics::counter!("sluice_traces_dropped_total", "why" => "queue").increment(1);
        return;
    }
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
