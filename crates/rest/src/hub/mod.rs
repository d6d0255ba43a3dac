//! Door of one service; see the crate.
