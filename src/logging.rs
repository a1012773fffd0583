//! Log lines on standard output, in the form `2026-03-03T12:00:00Z INFO message`.
//!
//! A thread of its own writes them: a terminal or pipe that stalls must never hold up a shard. When its queue is
//! full, lines are dropped and counted.

use crate::config::{Note, NoteLevel};
use std::io::IsTerminal;
use std::time::SystemTime;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

/// Lines that may wait for the writer.
const LINES_MAX: usize = 16_384;
/// What is logged unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "info,glommio=warn";

/// Starts logging. Lines still queued are written when the guard is dropped.
pub fn start() -> WorkerGuard {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(LINES_MAX).lossy(true).finish(std::io::stdout());
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A second engine in one process keeps the first one's logging.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colour)
        .event_format(Line)
        .try_init();
    guard
}

/// Logs what loading the configuration had to say.
pub fn note(note: &Note) {
    match note.level {
        NoteLevel::Info => tracing::info!("{}", note.text),
        NoteLevel::Warn => tracing::warn!("{}", note.text),
    }
}

/// One event as one line: time (RFC 3339, UTC, whole seconds), level, message, other fields.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let level = *event.metadata().level();
        let (on, off) = match (writer.has_ansi_escapes(), level) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\u{1b}[31m", "\u{1b}[0m"),
            (true, Level::WARN) => ("\u{1b}[33m", "\u{1b}[0m"),
            (true, _) => ("\u{1b}[32m", "\u{1b}[0m"),
        };
        write!(writer, "{} {on}{level}{off} ", humantime::format_rfc3339_seconds(SystemTime::now()))?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
