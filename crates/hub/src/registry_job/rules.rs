//! What may be asked of imports and exports, what their blobs are called, and how files fall into lines. Pure.

use base::caps;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::record::{Action, Progress, RegistryJobId};
use super::{Kind, RegistryJobSpec};
use crate::error::Error;
use crate::file_upload::ContainerUri;

const DEVICES: &str = "devices.txt";
const CONFIGURATIONS: &str = "configurations.txt";
/// Where the failures of an import are told.
pub(super) const ERRORS: &str = "importErrors.log";

/// What a job does that is asked for so. Whether its containers can be opened is another question.
pub(super) fn action(spec: &RegistryJobSpec, writes_twins: bool) -> Result<Action, Error> {
    if spec.is_identity_based {
        return Err(Error::InvalidEndpointAuthenticationType(
            "This server opens containers by the shared access signature of their URI: storageAuthenticationType must be keyBased.",
        ));
    }
    let named = |name: &Option<String>, default: &str| {
        name.as_deref().filter(|name| !name.is_empty()).unwrap_or(default).to_owned()
    };
    let required = |uri: &Option<ContainerUri>, name: &'static str| {
        uri.clone().filter(|uri| !uri.expose().is_empty()).ok_or(Error::ArgumentNull(name))
    };
    let configurations =
        spec.includes_configurations.then(|| named(&spec.configurations_blob, CONFIGURATIONS));
    let output = required(&spec.output, "outputBlobContainerUri")?;
    let action = match spec.kind {
        Kind::Export => Action::Export {
            output,
            blob: named(&spec.output_blob, DEVICES),
            excludes_keys: spec.excludes_keys,
            configurations,
        },
        Kind::Import => Action::Import {
            input: required(&spec.input, "inputBlobContainerUri")?,
            blob: named(&spec.input_blob, DEVICES),
            output,
            configurations,
            writes_twins,
        },
    };
    match &action {
        Action::Export { blob, configurations: Some(other), .. } if blob == other => {
            Err(Error::invalid("Devices and configurations cannot be written to one blob."))
        }
        _ => Ok(action),
    }
}

/// A blob that is written and removed, so that it is known that this can be done.
pub(super) fn probe_name(job_id: &RegistryJobId) -> String {
    format!("{job_id}.probe")
}

/// The job is in it, so that two that write one blob do not take each other's blocks. All are of one length.
pub(super) fn block_id(job_id: &RegistryJobId, number: u32) -> String {
    STANDARD.encode(format!("{job_id}-{number:010}"))
}

pub(super) fn block_ids(job_id: &RegistryJobId, count: u32) -> Vec<String> {
    (0..count).map(|number| block_id(job_id, number)).collect()
}

/// Never all of it.
pub(super) fn percent(progress: &Progress) -> u32 {
    let percent = progress.done.saturating_mul(100).checked_div(progress.all).unwrap_or_default();
    u32::try_from(percent.min(99)).unwrap_or(99)
}

/// The lines that begin in a part of a file, without their ends, and where the next one begins. `None`: the line is longer than the part,
/// which is not the last one.
pub(super) fn lines(part: &Bytes, is_last: bool, most: usize) -> Option<(Vec<(usize, Bytes)>, usize)> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while lines.len() < most && at < part.len() {
        let end = match part[at..].iter().position(|byte| *byte == b'\n') {
            Some(length) => at + length + 1,
            None if is_last => part.len(),
            None => break,
        };
        lines.push((at, part.slice(at..end)));
        at = end;
    }
    let is_cut_off = at == 0 && !part.is_empty();
    (!is_cut_off).then_some((lines, at))
}

/// A line as it is read: `None` where it says nothing. The first one may be words for people.
pub(super) fn text_of(line: &[u8], is_first: bool) -> Option<&[u8]> {
    let line = if is_first { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) } else { line };
    let line = line.trim_ascii();
    let are_words = is_first && !line.starts_with(b"{");
    if line.is_empty() || are_words { None } else { Some(line) }
}

/// Whether a line may be as long as this one.
pub(super) fn is_too_long(line: &[u8]) -> bool {
    line.len() > caps::REGISTRY_JOB_LINE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However a file is read, its lines are those that it has.
        #[test]
        fn lines_are_the_same_whatever_the_parts(
            texts in proptest::collection::vec("[a-z]{0,6}", 0..30), ends in any::<bool>(), size in 8_usize..40, most in 1_usize..5,
        ) {
            let mut whole = texts.join("\n");
            if ends && !whole.is_empty() {
                whole.push('\n');
            }
            let (whole, mut at, mut found) = (Bytes::from(whole), 0, Vec::new());
            while at < whole.len() {
                let end = (at + size).min(whole.len());
                let (lines, next) = lines(&whole.slice(at..end), end == whole.len(), most).expect("no line is so long");
                prop_assert!(next > 0 && lines.len() <= most);
                found.extend(lines.into_iter().map(|(from, line)| (at + from, line)));
                at += next;
            }
            prop_assert_eq!(found.iter().map(|(_, line)| &line[..]).collect::<Vec<_>>().concat(), &whole[..]);
            for (from, line) in found {
                prop_assert!(from == 0 || whole[from - 1] == b'\n');
                prop_assert!(!line[..line.len() - 1].contains(&b'\n'));
            }
        }

        #[test]
        fn block_ids_are_of_one_length_and_in_order(one in any::<u32>(), other in any::<u32>()) {
            let id = RegistryJobId::generate();
            let (first, second) = (block_id(&id, one), block_id(&id, other));
            prop_assert_eq!(first.len(), second.len());
            prop_assert_eq!(first == second, one == other);
            prop_assert!(STANDARD.decode(first).unwrap().len() <= 64);
        }
    }

    #[test]
    fn a_line_that_is_longer_than_the_part_is_told_apart_from_the_last_one() {
        let part = Bytes::from_static(b"abc");
        assert_eq!(lines(&part, false, 9), None);
        assert_eq!(lines(&part, true, 9), Some((vec![(0, part.clone())], 3)));
        assert_eq!(lines(&Bytes::new(), true, 9), Some((vec![], 0)));
    }

    #[test]
    fn what_is_for_people_is_passed_over_in_the_first_line_alone() {
        let text = |line: &'static str, is_first| text_of(line.as_bytes(), is_first);
        assert_eq!(text("// no keys\r\n", true), None);
        assert_eq!(text("// no keys\r\n", false), Some(&b"// no keys"[..]));
        assert_eq!(text("\u{feff}{}\r\n", true), Some(&b"{}"[..]));
        assert_eq!((text("  \r\n", false), text("\n", true)), (None, None));
    }

    #[test]
    fn containers_are_named_and_opened_by_a_signature() {
        let uri = Some(ContainerUri::new("https://a/c?sig=x"));
        let export = RegistryJobSpec { output: uri.clone(), ..RegistryJobSpec::new(Kind::Export) };
        let Ok(Action::Export { blob, configurations: None, .. }) = action(&export, true) else { panic!() };
        assert_eq!(blob, "devices.txt");
        let with = RegistryJobSpec { includes_configurations: true, ..export.clone() };
        assert_eq!(action(&with, true).unwrap().configurations(), Some("configurations.txt"));
        let same = RegistryJobSpec { configurations_blob: Some("devices.txt".into()), ..with };
        assert!(matches!(action(&same, true), Err(Error::ArgumentInvalid(_))));
        let by_identity = RegistryJobSpec { is_identity_based: true, ..export };
        assert!(matches!(action(&by_identity, true), Err(Error::InvalidEndpointAuthenticationType(_))));
        let import = RegistryJobSpec { output: uri, ..RegistryJobSpec::new(Kind::Import) };
        assert_eq!(action(&import, true), Err(Error::ArgumentNull("inputBlobContainerUri")));
        let nowhere = RegistryJobSpec::new(Kind::Export);
        assert_eq!(action(&nowhere, true), Err(Error::ArgumentNull("outputBlobContainerUri")));
    }
}
