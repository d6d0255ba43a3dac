//! What List Blobs answers, as far as it is asked for: names, and where the next page begins. The document is XML of one shape; a
//! name that it writes otherwise than as plain text is no name that our own clients make, and is passed over.

/// One page of a list of blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub names: Vec<String>,
    /// `None` on the last page.
    pub next_marker: Option<String>,
}

impl Listing {
    pub(crate) fn parse(document: &str) -> Self {
        let names = document.split("<Blob>").skip(1).filter_map(|blob| text_of(blob, "Name")).collect();
        let next_marker = text_of(document, "NextMarker").filter(|marker| !marker.is_empty());
        Self { names, next_marker }
    }
}

/// The text of the first element of a name.
fn text_of(document: &str, name: &str) -> Option<String> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(unescaped(text))
}

fn unescaped(text: &str) -> String {
    let mut plain = text.to_owned();
    // `&amp;` last: what it hides begins no other one.
    for (escape, character) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&amp;", "&")]
    {
        plain = plain.replace(escape, character);
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_the_next_page_are_found_among_all_the_rest() {
        let document = "<?xml version=\"1.0\"?><EnumerationResults><Prefix>Name</Prefix><Blobs>\
            <Blob><Name>a/1</Name><Properties><Content-Length>1</Content-Length></Properties></Blob>\
            <Blob><Name>a&amp;lt;&lt;b</Name></Blob><BlobPrefix><Name>no</Name></BlobPrefix></Blobs>\
            <NextMarker>a/2</NextMarker></EnumerationResults>";
        let next_marker = Some("a/2".to_owned());
        assert_eq!(
            Listing::parse(document),
            Listing { names: vec!["a/1".into(), "a&lt;<b".into()], next_marker }
        );
        for last in [
            "<EnumerationResults><Blobs/><NextMarker/></EnumerationResults>",
            "<NextMarker></NextMarker>",
            "",
        ] {
            assert_eq!(Listing::parse(last), Listing::default(), "{last}");
        }
    }

    proptest! {
        #[test]
        fn no_document_panics(document in "(<Blob>|<Name>|</Name>|<NextMarker>|</NextMarker>|&amp;|[a-z<>&;]{0,3}){0,40}") {
            let _ = Listing::parse(&document);
        }
    }
}
