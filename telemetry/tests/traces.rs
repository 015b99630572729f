//! What a collector is told, over real gRPC.
#![cfg(feature = "otlp")]

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use telemetry::kafka::KafkaSettings;
use telemetry::trace::{Kind, Trace};
use telemetry::{LogSettings, OtlpSettings, Service, init_logs};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let _ = self.0.send(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_is_told_of_requests_and_their_steps() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Server::builder().add_service(TraceServiceServer::new(Collector(tell)));
    let server = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let otlp = OtlpSettings { endpoint: Some(endpoint), ..OtlpSettings::default() };
    let service = Service { name: "edge-signal", version: "0.1.0", id: "edge-1".to_owned() };
    let before = Trace::new(1, 2);
    assert!(!before.is_sampled(), "there is no collector yet");
    let logs = init_logs(&LogSettings::default(), &KafkaSettings::default(), &otlp, &service).expect("once");
    let whole = Trace::new(0xabcd, 7);
    assert!(whole.is_sampled());
    whole.step(8).follow("negotiate", Kind::Internal, whole, async {}).await;
    whole.export_whole("publish", Duration::from_millis(5));
    before.export_whole("unseen", Duration::ZERO);
    tokio::task::spawn_blocking(|| logs.close()).await.expect("no panic");
    let mut spans = Vec::new();
    while let Ok(request) = told.try_recv() {
        for of_service in request.resource_spans {
            let attributes = of_service.resource.expect("a resource").attributes;
            assert!(attributes.iter().any(|attribute| attribute.key == "service.name"), "{attributes:?}");
            spans.extend(of_service.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    spans.sort_by_key(|span| span.span_id.clone());
    let [publish, negotiate] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((publish.name.as_str(), negotiate.name.as_str()), ("publish", "negotiate"));
    assert_eq!(publish.trace_id, 0xabcd_u128.to_be_bytes());
    assert_eq!((&negotiate.trace_id, &negotiate.parent_span_id), (&publish.trace_id, &publish.span_id));
    assert!(
        publish.parent_span_id.is_empty() && publish.end_time_unix_nano >= publish.start_time_unix_nano + 4_000_000
    );
    server.abort();
}
