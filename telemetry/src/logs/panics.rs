//! Panics as lines: what the standard library prints goes to stderr only, where machines that read JSON or Kafka do not look.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::thread;

use super::LogFormat;

/// Has each panic of the process logged. People who read text on stderr are shown it as ever; it is a line of that log only where lines
/// go elsewhere, too.
pub(super) fn log_them(format: LogFormat, kafka: bool) {
    let is_text = format == LogFormat::Text;
    if is_text && !kafka {
        return;
    }
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        log(panic);
        if is_text {
            before(panic);
        }
    }));
}

fn log(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    // Only if `RUST_BACKTRACE` asks for it.
    let trace = Backtrace::capture();
    let trace = (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string());
    tracing::error!(
        error = panic.payload_as_str().unwrap_or("not a text"),
        process.thread.name = thread.name(),
        log.origin.file.name = panic.location().map(panic::Location::file),
        log.origin.file.line = panic.location().map(panic::Location::line),
        error.stack_trace = trace,
        "a thread has panicked"
    );
}
