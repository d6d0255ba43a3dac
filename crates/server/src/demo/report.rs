//! Live progress for people, and the summary at the end.

use base::{Clock, Elapsed};

use crate::fleet::{Latencies, latencies, readable};
use crate::out;

/// Writes a line per chapter. On a terminal the running chapter's line changes as work proceeds.
pub struct Report {
    clock: Clock,
    is_terminal: bool,
    chapter: String,
    begun_at: Elapsed,
}

const TITLE_WIDTH: usize = 50;

impl Report {
    pub fn new(clock: Clock, is_terminal: bool) -> Self {
        let begun_at = clock.elapsed();
        Self { clock, is_terminal, chapter: String::new(), begun_at }
    }

    pub(super) fn begin(&mut self, current: &mut &'static str, chapter: &'static str) {
        *current = chapter;
        chapter.clone_into(&mut self.chapter);
        self.begun_at = self.clock.elapsed();
        self.progress("…");
    }

    /// Shows how far the chapter is; only where the line can be written over.
    pub(super) fn progress(&mut self, state: &str) {
        if self.is_terminal {
            out::write(format_args!("\r\x1b[2K  ▸ {:<TITLE_WIDTH$} {state}", self.chapter));
        }
    }

    pub(super) fn done(&mut self, what: &str) {
        let took = self.clock.elapsed().since(self.begun_at);
        let start = if self.is_terminal { "\r\x1b[2K" } else { "" };
        out::line(format_args!("{start}  ✓ {:<TITLE_WIDTH$} {what} ({})", self.chapter, readable(took)));
    }
}

/// What the demo has shown, in numbers.
pub struct Summary {
    pub devices: usize,
    pub twins: usize,
    pub relationships: usize,
    pub messages: usize,
    pub twin_updates: usize,
    pub twin_events: usize,
    /// Name and measured times of each kind of step.
    pub latencies: Vec<(&'static str, Latencies)>,
    /// A complete program that connects one more device.
    pub sample: String,
}

impl Summary {
    pub fn text(&self) -> String {
        let mut out = format!(
            "\n{} devices, {} digital twins with {} relationships, {} durable messages, {} twin updates, {} twin events\n\n",
            self.devices, self.twins, self.relationships, self.messages, self.twin_updates, self.twin_events
        );
        let rows: Vec<_> = self.latencies.iter().map(|(name, times)| (*name, times)).collect();
        out.push_str(&latencies::table(&rows));
        out
    }
}
