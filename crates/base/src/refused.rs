//! A device that is kept out: what it is told, which says nothing, and why, which is for the log alone. Made where credentials
//! are judged; doors tell each half to whom it belongs.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused<E> {
    pub error: E,
    /// Holds nothing of what was presented.
    pub why: &'static str,
}

impl<E> Refused<E> {
    pub fn new(error: E, why: &'static str) -> Self {
        Self { error, why }
    }
}
