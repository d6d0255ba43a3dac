//! Block ids, and the list by which a client commits blocks (Put Block List).
//! The list is XML of one shape; what has another is refused, so that no document can make the reader do more work than its length.

use std::fmt;
use std::str::FromStr;

use base::caps;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::xml::{Malformed, Reader, Tag};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBlockList {
    /// Azure's `InvalidXmlDocument`.
    #[error("XML specified is not syntactically valid.")]
    Malformed,
    /// Azure's `InvalidBlockId`.
    #[error("The specified block ID is invalid. The block ID must be Base64-encoded.")]
    BlockId,
    /// Azure's `BlockListTooLong`.
    #[error("The block list may not contain more than 50,000 blocks.")]
    TooLong,
}

/// Base64 of 1 to 64 bytes, kept as the client wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId(String);

impl FromStr for BlockId {
    type Err = InvalidBlockList;

    fn from_str(text: &str) -> Result<Self, InvalidBlockList> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidBlockList::BlockId)?;
        let has_length = (1..=caps::BLOCK_ID_BYTES_MAX).contains(&bytes.len());
        if has_length { Ok(Self(text.to_owned())) } else { Err(InvalidBlockList::BlockId) }
    }
}

impl BlockId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a block of the list is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Committed,
    Uncommitted,
    /// Among the uncommitted first, then among the committed.
    Latest,
}

impl Source {
    const ALL: [Self; 3] = [Self::Committed, Self::Uncommitted, Self::Latest];

    const fn tag(self) -> &'static str {
        match self {
            Self::Committed => "Committed",
            Self::Uncommitted => "Uncommitted",
            Self::Latest => "Latest",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub source: Source,
    pub id: BlockId,
}

/// The entries of the body of Put Block List, in their order.
pub fn parse(body: &str) -> Result<Vec<Entry>, InvalidBlockList> {
    if body.len() > caps::BLOCK_LIST_BYTES_MAX {
        return Err(InvalidBlockList::TooLong);
    }
    let mut reader = Reader::new(body)?;
    let mut entries = Vec::new();
    if reader.open("BlockList")? == Tag::Open {
        while !reader.close("BlockList") {
            if entries.len() == caps::BLOCKS_OF_BLOB_MAX {
                return Err(InvalidBlockList::TooLong);
            }
            entries.push(entry(&mut reader)?);
        }
    }
    if reader.is_at_end() { Ok(entries) } else { Err(InvalidBlockList::Malformed) }
}

/// The list that [`parse`] reads.
pub fn write(entries: &[Entry]) -> String {
    let entries = entries.iter().map(|Entry { source, id }| format!("<{0}>{id}</{0}>", source.tag()));
    let entries: String = entries.collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>{entries}</BlockList>")
}

fn entry(reader: &mut Reader<'_>) -> Result<Entry, InvalidBlockList> {
    let source = Source::ALL.into_iter().find(|source| reader.open(source.tag()) == Ok(Tag::Open));
    let source = source.ok_or(InvalidBlockList::Malformed)?;
    let text = reader.text()?;
    if !reader.close(source.tag()) {
        return Err(InvalidBlockList::Malformed);
    }
    Ok(Entry { source, id: text.parse()? })
}

impl From<Malformed> for InvalidBlockList {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(list: &[(Source, &str)]) -> Vec<Entry> {
        list.iter().map(|(source, id)| Entry { source: *source, id: id.parse().unwrap() }).collect()
    }

    #[test]
    fn the_lists_of_clients_are_read() {
        let python = "<?xml version='1.0' encoding='utf-8'?>\n<BlockList><Latest>YTE=</Latest><Latest>YjI=</Latest></BlockList>";
        assert_eq!(parse(python), Ok(entries(&[(Source::Latest, "YTE="), (Source::Latest, "YjI=")])));
        let spaced = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\r\n<BlockList>\r\n  <Committed> YTE= </Committed>\r\n  <Uncommitted>YjI=</Uncommitted>\r\n</BlockList>\r\n";
        assert_eq!(parse(spaced), Ok(entries(&[(Source::Committed, "YTE="), (Source::Uncommitted, "YjI=")])));
        for empty in ["<BlockList/>", "<BlockList />", "<BlockList></BlockList>"] {
            assert_eq!(parse(empty), Ok(Vec::new()), "{empty}");
        }
    }

    #[test]
    fn what_is_no_block_list_is_refused() {
        let malformed = [
            "",
            "<?xml",
            "<BlockList>",
            "<Blocks></Blocks>",
            "<BlockList><Latest>YTE=</BlockList>",
            "<BlockList><Latest>YTE=</Committed></BlockList>",
            "<BlockList><Latest/></BlockList>",
            "<BlockList><Newest>YTE=</Newest></BlockList>",
            "<BlockList><Latest>YTE=</Latest></BlockList><BlockList/>",
            "<!DOCTYPE x><BlockList/>",
        ];
        for text in malformed {
            assert_eq!(parse(text), Err(InvalidBlockList::Malformed), "{text}");
        }
        for id in ["", "not base64", "&#89;TE=", &STANDARD.encode([7; 65])] {
            let list = format!("<BlockList><Latest>{id}</Latest></BlockList>");
            assert_eq!(parse(&list), Err(InvalidBlockList::BlockId), "{id}");
        }
    }

    #[test]
    fn a_list_has_at_most_fifty_thousand_blocks_of_the_longest_ids() {
        let id = STANDARD.encode([7; 64]);
        let list = |count| write(&entries(&vec![(Source::Uncommitted, id.as_str()); count]));
        assert_eq!(parse(&list(50_000)).map(|list| list.len()), Ok(50_000));
        assert_eq!(parse(&list(50_001)), Err(InvalidBlockList::TooLong));
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let source = prop::sample::select(Source::ALL.to_vec());
        (source, prop::collection::vec(any::<u8>(), 1..=64))
            .prop_map(|(source, id)| Entry { source, id: BlockId(STANDARD.encode(id)) })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(list in prop::collection::vec(any_entry(), 0..20)) {
            prop_assert_eq!(parse(&write(&list)), Ok(list));
        }

        #[test]
        fn no_cut_list_is_taken(list in prop::collection::vec(any_entry(), 0..4), cut: prop::sample::Index) {
            let text = write(&list);
            prop_assert!(parse(&text[..cut.index(text.len())]).is_err());
        }

        #[test]
        fn reading_never_panics(text in "(<|</|/>|>|BlockList|Latest|YTE=|é| |<\\?xml|\\?>){0,30}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_bytes_become_more_entries_than_they_have_room_for(
            bytes in prop::collection::vec(any::<u8>(), 0..200), list in prop::collection::vec(any_entry(), 0..8),
            at: prop::sample::Index,
        ) {
            // Alone, and in the middle of a list that is good.
            let (random, good) = (String::from_utf8_lossy(&bytes), write(&list));
            let at = at.index(good.len());
            for text in [random.to_string(), format!("{}{random}{}", &good[..at], &good[at..])] {
                if let Ok(entries) = parse(&text) {
                    let least = "<Latest></Latest>".len() + 4;
                    prop_assert!(entries.len() * least <= text.len());
                }
            }
        }
    }
}
