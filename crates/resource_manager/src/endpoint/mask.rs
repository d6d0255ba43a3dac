//! How secrets look to readers, and how a masked value that comes back is recognised.
//! Called by the rules of endpoints and by the door. Pure.

use super::record::BusKind;

/// The two known ways in which the service hides a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mask {
    /// As the published pages print it.
    #[default]
    Stars,
    /// As the live service prints it today.
    Placeholder,
}

const STARS: &str = "***";
const PLACEHOLDER: &str = "(PLACEHOLDER)";

impl Mask {
    /// One opaque secret.
    pub fn token(self) -> &'static str {
        match self {
            Self::Stars => STARS,
            Self::Placeholder => PLACEHOLDER,
        }
    }

    pub fn connection_string(self, kind: BusKind) -> String {
        if (self, kind) == (Self::Stars, BusKind::EventHub) {
            return "*".repeat(12);
        }
        let token = self.token();
        format!(
            "Endpoint=sb://{token}/;SharedAccessKeyName={token};SharedAccessKey={token};EntityPath={token}"
        )
    }

    /// A container's URL keeps its shape; its signature is hidden.
    pub fn container_url(self, url: &str) -> String {
        let container = url.split('?').next().unwrap_or_default();
        format!("{container}?{}", self.token())
    }
}

fn is_token(text: &str) -> bool {
    text == PLACEHOLDER || !text.is_empty() && text.bytes().all(|b| b == b'*')
}

/// Whether `text` holds nothing but masks, or nothing at all, which is what a secret looks like while its endpoint is being made.
pub(super) fn is_masked(text: &str) -> bool {
    if text.is_empty() || is_token(text) {
        return true;
    }
    text.split(';').filter(|field| !field.is_empty()).all(|field| {
        let value = field.split_once('=').map_or("", |(_, value)| value);
        is_token(value.strip_prefix("sb://").unwrap_or(value).trim_end_matches('/'))
    })
}

/// Whether `url` is a container's URL whose signature is a mask.
pub(super) fn is_masked_url(url: &str) -> bool {
    is_masked(url) || url.split_once('?').is_some_and(|(_, query)| is_token(query))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_mask_is_recognised_when_it_comes_back() {
        for mask in [Mask::Stars, Mask::Placeholder] {
            assert!(is_masked(mask.token()));
            for kind in [BusKind::EventHub, BusKind::ServiceBus] {
                assert!(is_masked(&mask.connection_string(kind)), "{mask:?} {kind:?}");
            }
            assert!(is_masked_url(&mask.container_url("https://a.blob.core.windows.net/c?sv=1&sig=x")));
        }
    }

    #[test]
    fn a_real_secret_is_not_taken_for_a_mask() {
        for real in [
            "Endpoint=sb://a/;SharedAccessKeyName=b;SharedAccessKey=c=;EntityPath=d",
            "Endpoint=sb://***/;SharedAccessKeyName=***;SharedAccessKey=secret;EntityPath=***",
            "key",
            "https://a.blob.core.windows.net/c?sig=x",
        ] {
            assert!(!is_masked(real) && !is_masked_url(real), "{real}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_check_panic(text in "\\PC*|[*;=a-z/:?()]*") {
            let _ = (is_masked(&text), is_masked_url(&text));
        }
    }
}
