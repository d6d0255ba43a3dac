//! Lists of containers and of blobs, page by page, in the order of their names. With a delimiter what lies below a common beginning
//! is told as one, and passed over without being read.

use base::caps;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use store::{Key, Record, Scan, Stored};

use crate::account::Account;
use crate::blob::Found;
use crate::blob::record::Blob;
use crate::caller::Caller;
use crate::container::{Container, FoundContainer};
use crate::error::Error;
use crate::name::ContainerName;
use crate::sas::{Permission, Target};

/// What a client wants to see.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub prefix: String,
    pub delimiter: Option<String>,
    /// From the page before.
    pub marker: Option<String>,
    pub most: Option<usize>,
}

#[derive(Debug, Default)]
pub struct BlobPage {
    pub blobs: Vec<Found>,
    /// Each is told once, where its blobs would stand.
    pub prefixes: Vec<String>,
    pub next: Option<String>,
}

#[derive(Debug, Default)]
pub struct ContainerPage {
    pub containers: Vec<FoundContainer>,
    pub next: Option<String>,
}

impl Listing {
    fn most(&self) -> usize {
        self.most.unwrap_or(caps::BLOB_LIST_MAX).clamp(1, caps::BLOB_LIST_MAX)
    }

    /// The name at which the page begins.
    fn first(&self) -> Result<String, Error> {
        let Some(marker) = self.marker.as_deref().filter(|marker| !marker.is_empty()) else {
            return Ok(self.prefix.clone());
        };
        let decoded = URL_SAFE_NO_PAD.decode(marker).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        // Never before the prefix, whatever the marker says.
        decoded.map(|name| name.max(self.prefix.clone())).ok_or(Error::InvalidMarker)
    }

    /// The beginning that a name shares with others, up to the delimiter.
    fn common<'n>(&self, name: &'n str) -> Option<&'n str> {
        let delimiter = self.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty())?;
        let at = name.get(self.prefix.len()..)?.find(delimiter)?;
        name.get(..self.prefix.len() + at + delimiter.len())
    }
}

fn marker(name: &str) -> String {
    URL_SAFE_NO_PAD.encode(name)
}

/// The least text that is behind everything which begins so; `None` where nothing is.
fn behind(beginning: &str) -> Option<String> {
    let mut letters: Vec<char> = beginning.chars().collect();
    while let Some(last) = letters.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            letters.push(next);
            return Some(letters.into_iter().collect());
        }
    }
    None
}

impl Account {
    /// List Blobs.
    pub async fn list_blobs(
        &self,
        caller: &Caller,
        name: &ContainerName,
        listing: &Listing,
    ) -> Result<BlobPage, Error> {
        self.permit(caller, Target::Container(name), &[Permission::List]).await?;
        let container = self.container(name).await?.record;
        let prefix = Key::new([self.instance().as_str(), &container.id]);
        let (mut page, mut next) = (BlobPage::default(), Some(listing.first()?));
        while let Some(first) = next.take() {
            let found = self.beginning_at::<Blob>(&prefix, &first).await?;
            if found.is_empty() {
                break;
            }
            // Behind the last one, which the next read would give again.
            next = found.last().map(|last| format!("{}\0", last.record.name));
            for stored in found {
                let own = stored.record.name.as_str();
                if !own.starts_with(&listing.prefix) {
                    return Ok(page);
                }
                if page.blobs.len() + page.prefixes.len() == listing.most() {
                    page.next = Some(marker(own));
                    return Ok(page);
                }
                if let Some(common) = listing.common(own) {
                    page.prefixes.push(common.to_owned());
                    next = behind(common);
                    break;
                }
                page.blobs.push(stored.into());
            }
        }
        Ok(page)
    }

    /// List Containers.
    pub async fn list_containers(&self, caller: &Caller, listing: &Listing) -> Result<ContainerPage, Error> {
        self.permit_by_account(caller, Target::Service, &[Permission::List]).await?;
        let prefix = Key::instance(self.instance());
        let (mut page, mut next) = (ContainerPage::default(), Some(listing.first()?));
        while let Some(first) = next.take() {
            let found = self.beginning_at::<Container>(&prefix, &first).await?;
            next = found.last().map(|last| format!("{}\0", last.record.name));
            for stored in found {
                let own = stored.record.name.as_str();
                if !own.starts_with(&listing.prefix) {
                    return Ok(page);
                }
                if page.containers.len() == listing.most() {
                    page.next = Some(marker(own));
                    return Ok(page);
                }
                page.containers.push(stored.into());
            }
        }
        Ok(page)
    }

    /// Records whose last key part is `first` or behind it.
    async fn beginning_at<R: Record>(&self, prefix: &Key, first: &str) -> Result<Vec<Stored<R>>, Error> {
        let mut found = Vec::new();
        // A read begins behind a key, never at it.
        if !first.ends_with('\0') && !first.is_empty() {
            found.extend(self.store().get::<R>(&prefix.child(first)).await?);
        }
        let name = first.trim_end_matches('\0');
        let after = (!name.is_empty()).then(|| prefix.child(name));
        found.extend(self.store().scan::<R>(Scan::new(prefix.clone(), caps::SCAN_PAGE).after(after)).await?);
        Ok(found)
    }
}
