//! Containers, their policies, and lists.

use std::collections::BTreeSet;

use super::*;

fn tag(etag: &str) -> Conditions {
    Conditions { if_match: Some(etag.to_owned()), ..Conditions::default() }
}

#[tokio::test]
async fn a_container_is_made_once_changed_and_removed() {
    let f = Fixture::new().await;
    let name = container();
    let again = f.account.create_container(&KEY, &name, Metadata::new()).await;
    assert_eq!(again.err(), Some(Error::ContainerAlreadyExists));
    let metadata = Metadata::from([("a".into(), "1".into())]);
    let first = f.account.get_container(&KEY, &name).await.unwrap();
    let changed = f.account.set_container_metadata(&KEY, &name, &metadata, &tag(&first.etag)).await.unwrap();
    assert_ne!(changed.etag, first.etag);
    let stale = f.account.set_container_metadata(&KEY, &name, &metadata, &tag(&first.etag)).await;
    assert_eq!(stale.err(), Some(Error::ConditionNotMet));
    let document = "<SignedIdentifiers><SignedIdentifier><Id>p</Id></SignedIdentifier></SignedIdentifiers>";
    f.account.set_policies(&KEY, &name, document, &Conditions::default()).await.unwrap();
    let found = f.account.get_policies(&KEY, &name).await.unwrap().container;
    assert_eq!((found.policies[0].id.as_str(), found.metadata), ("p", metadata));
    f.account.delete_container(&KEY, &name, &Conditions::default()).await.unwrap();
    assert_eq!(f.account.get_container(&KEY, &name).await.err(), Some(Error::ContainerNotFound));
}

/// What a list must give, plainly.
fn expected(names: &BTreeSet<String>, prefix: &str, delimiter: Option<&str>) -> Vec<String> {
    let mut told = Vec::new();
    for name in names.iter().filter(|name| name.starts_with(prefix)) {
        let rest = &name[prefix.len()..];
        let cut = delimiter.and_then(|delimiter| Some(rest.find(delimiter)? + delimiter.len()));
        let entry = cut.map_or(name.clone(), |cut| format!("{}/", &name[..prefix.len() + cut - 1]));
        if told.last() != Some(&entry) {
            told.push(entry);
        }
    }
    told
}

#[tokio::test]
async fn lists_give_every_name_once_and_in_order_whatever_the_page() {
    let f = Fixture::new().await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut names = BTreeSet::new();
    while names.len() < 60 {
        let length = rng.usize(1..6);
        let name: String =
            (0..length).map(|_| *rng.choice(&['a', 'b', '/', 'é', '0', '~']).unwrap()).collect();
        if name.parse::<BlobName>().is_ok() && names.insert(name.clone()) {
            f.put(&name, "x".into()).await.unwrap();
        }
    }
    for prefix in ["", "a", "a/", "b/a", "é", "none"] {
        for delimiter in [None, Some("/")] {
            for most in [1, 3, 5000] {
                let mut told = Vec::new();
                let mut marker = None;
                loop {
                    let listing = Listing {
                        prefix: prefix.to_owned(),
                        delimiter: delimiter.map(str::to_owned),
                        marker: marker.clone(),
                        most: Some(most),
                    };
                    let page = f.account.list_blobs(&KEY, &container(), &listing).await.unwrap();
                    let mut entries: Vec<String> =
                        page.blobs.iter().map(|found| found.blob.name.to_string()).collect();
                    assert!(entries.len() + page.prefixes.len() <= most);
                    entries.extend(page.prefixes);
                    entries.sort();
                    told.extend(entries);
                    marker = page.next;
                    if marker.is_none() {
                        break;
                    }
                }
                let expected = expected(&names, prefix, delimiter);
                assert_eq!(told, expected, "{prefix} {delimiter:?} {most}");
            }
        }
    }
}

#[tokio::test]
async fn containers_are_listed_by_their_beginning_and_page_by_page() {
    let f = Fixture::new().await;
    for name in ["aa1", "ab1", "ab2"] {
        f.account.create_container(&KEY, &name.parse().unwrap(), Metadata::new()).await.unwrap();
    }
    let list = async |prefix: &str, marker: Option<String>, most| {
        let listing = Listing { prefix: prefix.to_owned(), delimiter: None, marker, most };
        let page = f.account.list_containers(&KEY, &listing).await.unwrap();
        let names: Vec<_> = page.containers.iter().map(|found| found.container.name.to_string()).collect();
        (names, page.next)
    };
    assert_eq!(
        list("", None, None).await,
        (["aa1", "ab1", "ab2", "uploads"].map(String::from).to_vec(), None)
    );
    let (names, next) = list("ab", None, Some(1)).await;
    assert_eq!(names, ["ab1"]);
    assert_eq!(list("ab", next, Some(1)).await.0, ["ab2"]);
    let wrong = Listing { marker: Some("*".into()), ..Listing::default() };
    assert_eq!(f.account.list_containers(&KEY, &wrong).await.err(), Some(Error::InvalidMarker));
}

/// A token of the container that leaves everything to its policy `p`.
fn by_policy(f: &Fixture) -> Caller {
    use base64::Engine;
    let resource = format!("/blob/{}/{}", f.account.name(), container());
    let lines = ["", "", "", &resource, "p", "", "", "2026-10-06", "c", "", "", "", "", "", "", ""];
    let signature = f.account.settings().keys[0].hmac_sha256(lines.join("\n").as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    let fields = [("sv", "2026-10-06"), ("sr", "c"), ("si", "p"), ("sig", signature.as_str())];
    let sas = Box::new(Sas::parse(&fields).unwrap().unwrap());
    Caller::Sas { sas, is_https: true, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) }
}

#[tokio::test]
async fn a_token_that_leaves_it_to_a_policy_may_what_the_policy_says_now() {
    let f = Fixture::new().await;
    f.put("b", "bytes".into()).await.unwrap();
    let (token, name, at) = (by_policy(&f), container(), (&container(), &blob("b")));
    let (read, none) =
        (async || f.account.get_blob(&token, at, &Conditions::default()).await, Conditions::default());
    let refused = async |why| assert_eq!(read().await.unwrap_err(), Error::Refused(why));
    refused(sas::Refusal::Policy).await;
    let says = async |policy: &str| {
        let policy =
            format!("<SignedIdentifier><Id>p</Id><AccessPolicy>{policy}</AccessPolicy></SignedIdentifier>");
        let document = format!("<SignedIdentifiers>{policy}</SignedIdentifiers>");
        f.account.set_policies(&KEY, &name, &document, &none).await.unwrap();
    };
    says("<Expiry>2099-01-01</Expiry><Permission>r</Permission>").await;
    read().await.unwrap();
    assert!(f.account.delete_blob(&token, at, &none).await.is_err(), "it may read");
    says("<Expiry>2099-01-01</Expiry><Permission>l</Permission>").await;
    refused(sas::Refusal::Permission).await;
    says("<Expiry>2025-01-01</Expiry><Permission>r</Permission>").await;
    refused(sas::Refusal::Time).await;
    f.account.set_policies(&KEY, &name, "", &none).await.unwrap();
    refused(sas::Refusal::Policy).await;
}
