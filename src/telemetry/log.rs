//! The program's own lines on standard error, and what the workers print.
//!
//! ```text
//! 2026-11-23 22:00:00 info  worker 2 ready (pid 4711)
//! w2 | a line that the application printed in worker 2
//! ```

use super::clock::Clock;
use super::output::{self, OutputStream, StandardError};
use super::{Level, Settings};
use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, reload};

/// Starts logging to standard error. Call it once, early; a second call changes nothing.
pub fn start(settings: &Settings) {
    output::start();
    let colours = colours_wanted(&io::stderr());
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_writer(|| StandardError)
        .event_format(Line { clock: Mutex::default(), colours });
    // Only a test that has started logging already can make this fail.
    let (filter, handle) = reload::Layer::new(filter(settings.level));
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Changes how much is logged; while nothing is being logged it costs nothing.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// From now on so much is logged.
pub fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // It lives as long as the program.
        let _ = handle.reload(filter(level));
    }
}

/// Our own lines at the level asked for. Libraries speak of single frames and states of theirs: their debugging is left
/// out unless everything is asked for.
fn filter(level: Level) -> Targets {
    let ours = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let libraries = if level == Level::Trace { ours } else { ours.min(LevelFilter::WARN) };
    Targets::new().with_default(libraries).with_target("monoceros", ours)
}

/// On a terminal, unless `NO_COLOR` is set to anything (<https://no-color.org>).
pub(crate) fn colours_wanted(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// One event as one line: time, level, message, further fields.
struct Line {
    clock: Mutex<Clock>,
    colours: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (name, colour) = match *event.metadata().level() {
            tracing::Level::ERROR => ("error", "31"),
            tracing::Level::WARN => ("warn ", "33"),
            tracing::Level::INFO => ("info ", "32"),
            tracing::Level::DEBUG => ("debug", "34"),
            tracing::Level::TRACE => ("trace", "35"),
        };
        {
            let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            let time = clock.at(SystemTime::now());
            if self.colours {
                write!(writer, "\x1b[2m{time}\x1b[0m \x1b[{colour}m{name}\x1b[0m ")?;
            } else {
                write!(writer, "{time} {name} ")?;
            }
        }
        context.field_format().format_fields(writer.by_ref(), event)?;
        writer.write_char('\n')
    }
}

/// Passes on lines that a worker printed, to the same output of ours, with its number in front; `None` is the process
/// that forks the workers. The log level does not matter: the application has levels of its own, and a traceback must
/// not get lost. Waits when nobody reads.
pub async fn worker_output(worker: Option<u32>, stream: OutputStream, lines: &[u8]) {
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    let lines = lines.split(|byte| *byte == b'\n');
    let text: String = lines.map(|line| output_line(worker, &String::from_utf8_lossy(line))).collect();
    stream.output(text.into_bytes()).await;
}

fn output_line(worker: Option<u32>, line: &str) -> String {
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let mut text = String::with_capacity(line.len() + 8);
    let _ = match worker {
        Some(worker) => writeln!(text, "w{worker} | {line}"),
        None => writeln!(text, "app | {line}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Memory {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn logged(level: Level, act: impl FnOnce()) -> Vec<String> {
        let memory = Memory::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_writer(memory.clone())
            .event_format(Line { clock: Mutex::default(), colours: false });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filter(level)).with(layer), act);
        let bytes = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).lines().map(|line| line["2026-11-23 22:00:00 ".len()..].to_owned()).collect()
    }

    #[test]
    fn a_line_has_level_message_and_fields() {
        let lines = logged(Level::Info, || {
            tracing::info!("worker {} ready", 2);
            tracing::warn!(worker = 3, "slow");
            tracing::debug!("not asked for");
        });
        assert_eq!(lines, ["info  worker 2 ready", "warn  slow worker=3"]);
    }

    #[test]
    fn libraries_are_quiet_below_trace() {
        let act = || {
            tracing::debug!("ours");
            tracing::debug!(target: "h2::codec", "frame");
            tracing::warn!(target: "rustls", "odd");
        };
        assert_eq!(logged(Level::Debug, act), ["debug ours", "warn  odd"]);
        assert_eq!(logged(Level::Error, act), Vec::<String>::new());
        assert_eq!(logged(Level::Trace, act).len(), 3);
    }

    #[test]
    fn output_of_workers_keeps_its_text() {
        assert_eq!(output_line(Some(12), "a | b\r\n"), "w12 | a | b\n");
        assert_eq!(output_line(None, ""), "app | \n");
    }
}
