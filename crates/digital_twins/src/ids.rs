//! The identifiers of a Digital Twins instance. Parsed at the door, so that no operation can hold a bad one.
//! Nothing else constructs them; none of them may allow a character that a key or a path would have to escape twice.

use base::{caps, checked_string};

fn is_twin_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= caps::DIGITAL_TWIN_ID_CHARACTERS_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+%_#*?!(),=@$'".contains(&b))
}

fn is_event_route_id(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= caps::EVENT_ROUTE_ID_CHARACTERS_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

checked_string!(
    /// `$dtId`: 1 to 127 characters, case-sensitive (digital-twins.md §3.1).
    DigitalTwinId,
    "1 to 127 characters of A-Z a-z 0-9 - . + % _ # * ? ! ( ) , = @ $ '",
    is_twin_id
);

checked_string!(
    /// `$relationshipId`, unique within its source; the same class as [`DigitalTwinId`].
    RelationshipId,
    "1 to 127 characters of A-Z a-z 0-9 - . + % _ # * ? ! ( ) , = @ $ '",
    is_twin_id
);

checked_string!(
    /// The name of an event route.
    EventRouteId,
    "letters, digits, - and _",
    is_event_route_id
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_id_is_shorter_than_128_and_of_azures_alphabet() {
        assert!("a-.+%_#*?!(),=@$'9".parse::<DigitalTwinId>().is_ok());
        assert!("x".repeat(127).parse::<DigitalTwinId>().is_ok());
        for bad in ["", "a b", "a/b", "a:b", "a;b", "ä", "a\"b", &"x".repeat(128)] {
            assert!(bad.parse::<DigitalTwinId>().is_err(), "{bad}");
            assert!(bad.parse::<RelationshipId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_route_id_is_a_plain_name() {
        assert!("route-1_B".parse::<EventRouteId>().is_ok());
        for bad in ["", "a.b", "a b", "a/b", &"x".repeat(caps::EVENT_ROUTE_ID_CHARACTERS_MAX + 1)] {
            assert!(bad.parse::<EventRouteId>().is_err(), "{bad}");
        }
    }
}
