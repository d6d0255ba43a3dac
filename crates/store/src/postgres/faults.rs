//! Rules of commits that tests break on purpose, one at a time, to see that breaking them is noticed.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests break rules"))]
pub(crate) enum Fault {
    /// Records are locked as they come, not in key order.
    LocksUnordered,
    /// A commit that carries a warning is taken for a yes.
    WarningsTrusted,
    /// Revisions are taken before anything is locked.
    RevisionFirst,
    /// Every second server locks partitions of streams the other way round.
    PartitionsUnordered,
    /// What is relayed is not held against the epoch of its lease.
    EpochUnchecked,
}
