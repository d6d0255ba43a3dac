//! Which lane of the outbox an event waits in: all of one partition key in one, so that whoever holds the lane tells them in order.

use base::caps;

/// The same on every server and for ever: rows that wait were put by it.
pub(crate) fn of(instance: &str, partition_key: &str) -> i16 {
    let hash = crc32c::crc32c_append(crc32c::crc32c(instance.as_bytes()), partition_key.as_bytes());
    i16::try_from(hash % u32::from(caps::OUTBOX_LANES)).expect("there are few lanes")
}

pub(crate) fn all() -> Vec<i16> {
    (0..i16::try_from(caps::OUTBOX_LANES).expect("there are few lanes")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_lane_for_ever_and_keys_spread() {
        assert_eq!(
            [of("hub", "dev1"), of("hub", "dev2"), of("", "")],
            [of("hub", "dev1"), of("hub", "dev2"), 0]
        );
        let lanes: std::collections::BTreeSet<_> = (0..2000).map(|n| of("hub", &format!("dev{n}"))).collect();
        assert_eq!(lanes.into_iter().collect::<Vec<_>>(), all());
    }
}
