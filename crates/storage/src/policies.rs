//! The stored access policies of a container, as clients send and read them (Set and Get Container ACL).

use base::{Timestamp, caps};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::sas::{self, AccessPolicy};
use crate::xml::{Malformed, Reader, Tag};

/// What a token may leave to its container, by the name that the token gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPolicy {
    pub id: String,
    pub permissions: Option<String>,
    pub start: Option<Timestamp>,
    pub expiry: Option<Timestamp>,
}

impl StoredPolicy {
    pub(crate) fn granted(&self) -> AccessPolicy {
        AccessPolicy { permissions: self.permissions.clone(), start: self.start, expiry: self.expiry }
    }
}

/// The body of Set Container ACL; one that is empty has none.
pub(crate) fn parse(body: &str) -> Result<Vec<StoredPolicy>, Error> {
    if body.trim().is_empty() {
        return Ok(Vec::new());
    }
    let policies =
        read(body).map_err(|Malformed| Error::BlockList(crate::block_list::InvalidBlockList::Malformed))?;
    let is_id = |id: &str| (1..=caps::STORED_POLICY_ID_CHARACTERS_MAX).contains(&id.chars().count());
    let is_twice = |at: usize| policies[..at].iter().any(|(id, ..)| *id == policies[at].0);
    if policies.len() > caps::STORED_POLICIES_MAX
        || !policies.iter().all(|(id, ..)| is_id(id))
        || (0..policies.len()).any(is_twice)
    {
        return Err(Error::InvalidXmlNodeValue);
    }
    policies.into_iter().map(policy).collect()
}

type Raw<'a> = (&'a str, [Option<&'a str>; 3]);

fn policy((id, [start, expiry, permissions]): Raw<'_>) -> Result<StoredPolicy, Error> {
    let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let moment = |text: Option<&str>| {
        let text = text.filter(|text| !text.is_empty());
        sas::moment(text).map_err(|_| Error::InvalidXmlNodeValue)
    };
    if id.contains('&') || permissions.is_some_and(|letters| !letters.bytes().all(|b| b.is_ascii_lowercase()))
    {
        return Err(Error::InvalidXmlNodeValue);
    }
    Ok(StoredPolicy {
        id: id.to_owned(),
        permissions: given(permissions),
        start: moment(start)?,
        expiry: moment(expiry)?,
    })
}

fn read(body: &str) -> Result<Vec<Raw<'_>>, Malformed> {
    let mut reader = Reader::new(body)?;
    let mut policies = Vec::new();
    if reader.open("SignedIdentifiers")? == Tag::Open {
        while !reader.close("SignedIdentifiers") {
            if policies.len() > caps::STORED_POLICIES_MAX || reader.open("SignedIdentifier")? == Tag::Empty {
                return Err(Malformed);
            }
            let id = reader.element("Id")?.ok_or(Malformed)?;
            let mut fields = [None; 3];
            if reader.open("AccessPolicy") == Ok(Tag::Open) {
                // In whatever order.
                while !reader.close("AccessPolicy") {
                    let names = ["Start", "Expiry", "Permission"];
                    let mut is_known = false;
                    for (name, field) in names.into_iter().zip(&mut fields) {
                        if let Some(text) = reader.element(name)? {
                            (*field, is_known) = (Some(text), true);
                        }
                    }
                    if !is_known {
                        return Err(Malformed);
                    }
                }
            }
            if !reader.close("SignedIdentifier") {
                return Err(Malformed);
            }
            policies.push((id, fields));
        }
    }
    if reader.is_at_end() { Ok(policies) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_policies_of_clients_are_read() {
        let body = "<?xml version='1.0' encoding='utf-8'?>\n<SignedIdentifiers><SignedIdentifier><Id>read</Id><AccessPolicy>\
                    <Start>2026-01-01T00:00:00Z</Start><Expiry>2026-01-02</Expiry><Permission>rl</Permission></AccessPolicy>\
                    </SignedIdentifier><SignedIdentifier><Id>b</Id><AccessPolicy /></SignedIdentifier></SignedIdentifiers>";
        let policies = parse(body).unwrap();
        assert_eq!(policies[0].permissions.as_deref(), Some("rl"));
        assert_eq!(policies[0].expiry, "2026-01-02T00:00:00Z".parse().ok());
        assert_eq!((policies[1].id.as_str(), policies[1].start), ("b", None));
        assert!(parse("").unwrap().is_empty() && parse("<SignedIdentifiers />").unwrap().is_empty());
    }

    #[test]
    fn too_many_policies_and_what_is_none_are_refused() {
        let one = |id: &str| format!("<SignedIdentifier><Id>{id}</Id></SignedIdentifier>");
        let all = |ids: &[&str]| {
            let ids: String = ids.iter().map(|id| one(id)).collect();
            parse(&format!("<SignedIdentifiers>{ids}</SignedIdentifiers>"))
        };
        assert_eq!(all(&["1", "2", "3", "4", "5"]).unwrap().len(), caps::STORED_POLICIES_MAX);
        for wrong in
            [&["1", "2", "3", "4", "5", "6"][..], &["1", "1"], &[""], &["a&amp;b"], &[&"x".repeat(65)]]
        {
            assert_eq!(all(wrong), Err(Error::InvalidXmlNodeValue), "{wrong:?}");
        }
        for wrong in ["<SignedIdentifiers>", "x", "<SignedIdentifiers><Id/></SignedIdentifiers>"] {
            assert_eq!(parse(wrong).unwrap_err().code(), "InvalidXmlDocument", "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_document_makes_it_panic_and_no_more_policies_come_out_of_one_than_a_container_has(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::sample::select(vec![
                        "<SignedIdentifiers>", "</SignedIdentifiers>", "<SignedIdentifier>", "</SignedIdentifier>", "<Id>", "</Id>",
                        "<AccessPolicy>", "</AccessPolicy>", "<AccessPolicy/>", "<Expiry>", "</Expiry>", "<Permission>",
                        "</Permission>", "<Id>a</Id>", "<?xml ?>", "2026-01-01", "<",
                    ]).prop_map(str::to_owned),
                    "\\PC{0,6}",
                ],
                0..40,
            ),
            ids in prop::collection::vec("[a-c]{0,2}", 0..12),
        ) {
            let inner: String =
                ids.iter().map(|id| format!("<SignedIdentifier><Id>{id}</Id></SignedIdentifier>")).collect();
            for text in [parts.concat(), format!("<SignedIdentifiers>{inner}{}</SignedIdentifiers>", parts.concat())] {
                if let Ok(policies) = parse(&text) {
                    prop_assert!(policies.len() <= caps::STORED_POLICIES_MAX);
                }
            }
        }
    }
}
