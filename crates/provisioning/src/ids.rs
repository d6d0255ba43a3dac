//! Ids of enrollments, groups and registrations: kept as given, compared without case.

use base::checked_string;

fn is_registration_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    let ends_well = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    text.len() <= base::caps::ID_CHARACTERS_MAX
        && text.bytes().all(allowed)
        && text.bytes().last().is_some_and(ends_well)
}

checked_string!(
    /// 1–128 of `A-Z a-z 0-9 - . _ :`, ending in a letter, a digit or `-` (IoT DPS concepts, service). Also an enrollment group's id.
    RegistrationId,
    "1 to 128 characters of A-Z a-z 0-9 - . _ : with a letter, digit or - at the end",
    is_registration_id
);

impl RegistrationId {
    /// The form under which it is stored and compared.
    pub fn folded(&self) -> String {
        self.as_str().to_ascii_lowercase()
    }

    pub fn is_same(&self, other: &str) -> bool {
        self.as_str().eq_ignore_ascii_case(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_id_takes_dps_alphabet_and_nothing_else() {
        for good in ["a", "Dev-01", "a.b_c:d-", &"x".repeat(128)] {
            assert!(good.parse::<RegistrationId>().is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a.", "a_", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<RegistrationId>().is_err(), "{bad}");
        }
    }
}
