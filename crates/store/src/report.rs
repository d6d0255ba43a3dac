//! What looking at stored data, or mending it, found; for a person at a terminal.

/// What `check` and `repair` of records and of the log say.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub is_sound: bool,
    /// Sentences.
    pub lines: Vec<String>,
}
