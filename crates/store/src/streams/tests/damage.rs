//! Torn tails, flipped bytes, missing files, failing disks.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;

type Image = BTreeMap<String, Vec<u8>>;

fn open_image(image: &Image) -> Result<Streams, StoreError> {
    Streams::open_at(Medium::Memory(Memory::from_image(image)), SETTINGS, None)
}

/// A log of one segment, with the file offset behind the declarations and behind each acknowledged record.
async fn small_log() -> (Image, u64, Vec<(u64, String)>) {
    let memory = Arc::new(Memory::default());
    let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
    let end = || memory.image().values().next().unwrap().len() as u64;
    let (declared, mut acknowledged) = (end(), Vec::new());
    for number in 0..6_u32 {
        let body = format!("body-{number}");
        let partition = number % 2;
        streams.append(&id(), partition, vec![record(i64::from(number), &body)]).await.unwrap();
        acknowledged.push((end(), body));
    }
    streams.append_once(&id(), 0, 3, vec![(9, record(9, "once"))]).await.unwrap();
    acknowledged.push((end(), "once".into()));
    drop(streams);
    (memory.image(), declared, acknowledged)
}

/// Everything of both partitions, in the order of appending.
async fn all(streams: &Streams) -> Result<Vec<String>, StoreError> {
    let mut records = streams.read(&id(), 0, Position::Earliest, 100).await?;
    records.extend(streams.read(&id(), 1, Position::Earliest, 100).await?);
    records.sort_by_key(|record| record.offset);
    Ok(records.iter().map(|record| String::from_utf8(record.body.to_vec()).unwrap()).collect())
}

/// What lies before the damage is there, in full and in order, and the log goes on.
async fn check_survivors(image: &Image, damaged_at: u64, acknowledged: &[(u64, String)]) {
    let expected: Vec<_> =
        acknowledged.iter().filter(|(end, _)| *end <= damaged_at).map(|(_, body)| body.clone()).collect();
    let streams = open_image(image).unwrap();
    assert_eq!(all(&streams).await.unwrap(), expected, "damaged at {damaged_at}");
    // Where the damage took the declarations along.
    streams.ensure(&id(), PARTITIONS).await.unwrap();
    let next = streams.partition(&id(), 0).await.unwrap().next_sequence;
    let appended = streams.append(&id(), 0, vec![record(50, "after")]).await.unwrap();
    assert_eq!(appended.first_sequence, next);
    let survivors = all(&streams).await.unwrap();
    assert_eq!(survivors.last().unwrap(), "after");
    assert_eq!(survivors.len(), expected.len() + 1);
}

#[tokio::test]
async fn a_file_cut_anywhere_keeps_every_record_before_the_cut() {
    let (image, _, acknowledged) = small_log().await;
    let (name, bytes) = image.first_key_value().unwrap();
    let opening = segment::opening(0, &lane::Lanes::default()).len();
    for cut in 0..=bytes.len() {
        // A tail of zeros is what a file that was filled ahead leaves.
        for zeros in [0, 100] {
            let mut torn = bytes[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            // Zeros that were zeros before are no damage.
            let cut = torn.iter().zip(bytes).take_while(|(torn, whole)| torn == whole).count();
            let torn = Image::from([(name.clone(), torn)]);
            if cut < opening {
                assert!(matches!(open_image(&torn), Err(StoreError::Corrupt(_))), "cut at {cut}");
            } else {
                check_survivors(&torn, cut as u64, &acknowledged).await;
            }
        }
    }
}

/// Everything of a partition that can be read, and what is told as lost.
async fn readable(streams: &Streams, partition: u32) -> (Vec<String>, Vec<Lost>) {
    let (mut found, mut lost, mut next) = (Vec::new(), Vec::new(), 0);
    loop {
        match streams.read(&id(), partition, Position::Sequence(next), 7).await {
            Ok(records) if records.is_empty() => return (found, lost),
            Ok(records) => {
                assert_eq!(records[0].sequence, next, "a silent gap");
                next += records.len() as u64;
                found.extend(records.iter().map(|r| String::from_utf8(r.body.to_vec()).unwrap()));
            }
            Err(StoreError::Lost(told)) => {
                assert_eq!((told.first_sequence, told.partition), (next, partition));
                assert!(told.next_sequence > next, "a reader that goes on stays where it is");
                next = told.next_sequence;
                lost.push(*told);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Opens the damaged log twice: every acknowledged record but the `damaged` one is there, the loss is told, and no number is
/// given out again.
async fn check_salvaged(image: &Image, damaged: Option<usize>, acknowledged: &[(u64, String)], what: &str) {
    let memory = Memory::from_image(image);
    let mut next = [0_u64; 2];
    for round in 0..2 {
        let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
        for (partition, next) in (0_u32..).zip(&mut next) {
            // The last one was appended to partition 0.
            let of = |number: usize| u32::from(number % 2 == 1 && number != 6);
            let mine: Vec<usize> =
                (0..acknowledged.len()).filter(|number| of(*number) == partition).collect();
            let (mut found, lost) = readable(&streams, partition).await;
            found.retain(|body| body != "after");
            let kept = mine.iter().filter(|number| Some(**number) != damaged);
            let expected: Vec<_> = kept.map(|number| acknowledged[*number].1.clone()).collect();
            assert_eq!(found, expected, "{what}");
            if let Some(at) = mine.iter().position(|number| Some(*number) == damaged) {
                let told = |lost: &Lost| (lost.first_sequence..lost.next_sequence).contains(&(at as u64));
                assert!(lost.iter().any(told), "{what}: {lost:?}");
            }
            let state = streams.partition(&id(), partition).await.unwrap();
            let least = (mine.len() as u64).max(*next);
            assert!(state.next_sequence >= least, "{what}: a number is given out again");
            let appended = streams.append(&id(), partition, vec![record(50, "after")]).await;
            *next = appended.unwrap().first_sequence + 1;
            assert_eq!(*next, state.next_sequence + 1);
            let from = Position::Sequence(state.next_sequence);
            let after = streams.read(&id(), partition, from, 1).await.unwrap();
            let end = image.values().map(|bytes| bytes.len() as u64).sum::<u64>();
            assert!(after[0].offset >= end, "{what}: an offset is given out again");
        }
        assert_eq!(streams.damage().segments, 1, "{what}, round {round}");
    }
}

#[tokio::test]
async fn a_byte_flipped_anywhere_takes_its_own_record_and_no_other() {
    let (image, declared, acknowledged) = small_log().await;
    let (name, bytes) = image.first_key_value().unwrap();
    let opening = segment::opening(0, &lane::Lanes::default()).len();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= [0x01, 0x80, 0xff][at % 3];
        let flipped = Image::from([(name.clone(), flipped)]);
        let (what, at) = (format!("flipped at {at}"), at as u64);
        let damaged = acknowledged.iter().position(|(end, _)| at < *end).unwrap();
        if at < opening as u64 {
            assert!(matches!(open_image(&flipped), Err(StoreError::Corrupt(_))), "{what}");
        } else if at < declared {
            check_salvaged(&flipped, None, &acknowledged, &what).await;
        } else if damaged == acknowledged.len() - 1 {
            // Nothing whole lies behind it: just what a crash tears.
            check_survivors(&flipped, at, &acknowledged).await;
        } else {
            check_salvaged(&flipped, Some(damaged), &acknowledged, &what).await;
        }
    }
}

#[tokio::test]
async fn a_place_that_became_zeros_takes_what_lay_there_and_nothing_behind_it() {
    let (image, _, acknowledged) = small_log().await;
    let (name, bytes) = image.first_key_value().unwrap();
    for number in 0..acknowledged.len() - 1 {
        let start = if number == 0 { acknowledged[0].0 - 50 } else { acknowledged[number - 1].0 };
        let (start, end) =
            (usize::try_from(start).unwrap(), usize::try_from(acknowledged[number].0).unwrap());
        let mut zeros = bytes.clone();
        zeros[start..end].fill(0);
        let zeros = Image::from([(name.clone(), zeros)]);
        check_salvaged(&zeros, Some(number), &acknowledged, &format!("zeros from {start} to {end}")).await;
    }
}

#[tokio::test]
async fn numbers_of_a_stream_whose_name_is_lost_are_not_given_out_again() {
    let (image, declared, acknowledged) = small_log().await;
    let (name, bytes) = image.first_key_value().unwrap();
    let opening = segment::opening(0, &lane::Lanes::default()).len();
    let mut zeros = bytes.clone();
    zeros[opening..usize::try_from(declared).unwrap()].fill(0);
    let streams =
        opened(Medium::Memory(Memory::from_image(&Image::from([(name.clone(), zeros)]))), SETTINGS).await;
    for partition in 0..2 {
        assert_eq!(readable(&streams, partition).await.0, [""; 0]);
        let appended = streams.append(&id(), partition, vec![record(50, "after")]).await.unwrap();
        assert!(appended.first_sequence >= 4, "{acknowledged:?}");
        assert_eq!(streams.read(&id(), partition, Position::Earliest, 9).await.unwrap()[0].body, "after");
    }
}

#[tokio::test]
async fn a_removal_that_is_lost_does_not_bring_the_old_records_under_the_new_name() {
    let memory = Arc::new(Memory::default());
    let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
    streams.append(&id(), 0, vec![record(1, "old")]).await.unwrap();
    let before = memory.image().values().next().unwrap().len();
    streams.remove(&id()).await.unwrap();
    let behind = memory.image().values().next().unwrap().len();
    streams.ensure(&id(), PARTITIONS).await.unwrap();
    streams.append(&id(), 0, vec![record(1, "new")]).await.unwrap();
    drop(streams);
    let mut image = memory.image();
    image.values_mut().next().unwrap()[before..behind].fill(0xff);
    for _ in 0..20 {
        let streams = open_image(&image).unwrap();
        assert_eq!(bodies(&streams, 0, Position::Earliest).await.unwrap(), ["new"]);
    }
}

#[tokio::test]
async fn what_recovery_cuts_off_is_kept_beside_the_log() {
    let (image, _, _) = small_log().await;
    let (name, bytes) = image.first_key_value().unwrap();
    let torn = Image::from([(name.clone(), bytes[..bytes.len() - 3].to_vec())]);
    let memory = Memory::from_image(&torn);
    drop(Streams::open_at(Medium::Memory(Arc::clone(&memory)), SETTINGS, None).unwrap());
    let after = memory.image();
    let (log, cut) = (&after[name], after.iter().find(|(name, _)| name.contains(".cut-")).unwrap().1);
    assert_eq!([&log[..], &cut[..]].concat(), bytes[..bytes.len() - 3]);
}

#[tokio::test]
async fn damage_in_a_sealed_segment_is_told_and_all_around_it_is_read() {
    let memory = Arc::new(Memory::default());
    let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
    for (second, body) in numbered(0..200).iter().enumerate() {
        streams.append(&id(), 0, vec![record(i64::try_from(second).unwrap(), body)]).await.unwrap();
    }
    drop(streams);
    let image = memory.image();
    let second = image.keys().nth(1).unwrap();
    for at in (0..image[second].len()).step_by(7) {
        let mut damaged = image.clone();
        damaged.get_mut(second).unwrap()[at] ^= 0x10;
        let Ok(streams) = open_image(&damaged) else { continue };
        assert_eq!(streams.damage(), LogDamage { segments: 0, records_lost: 0 }, "nobody has looked yet");
        let (found, lost) = readable(&streams, 0).await;
        let [lost] = &lost[..] else { panic!("damaged at {at}: {lost:?}") };
        assert_eq!((lost.next_sequence - lost.first_sequence, &lost.segment), (1, second));
        assert!(lost.position as usize <= at && at < lost.position as usize + 200, "{lost}");
        let mut expected = numbered(0..200);
        let gone = expected.remove(usize::try_from(lost.first_sequence).unwrap());
        assert_eq!(found, expected);
        assert_eq!(streams.damage(), LogDamage { segments: 1, records_lost: 1 });
        // A position behind the damage knows nothing of it; one within it is told.
        let time = at_second(&gone);
        let refused = streams.read(&id(), 0, Position::Time(time), 9).await;
        assert_eq!(refused, Err(StoreError::Lost(Box::new(lost.clone()))));
        assert_eq!(bodies(&streams, 0, Position::Sequence(150)).await.unwrap(), numbered(150..200));
        // A trim gets past it, and with its segment the damage is gone.
        streams.trim(&id(), Timestamp::from_unix_seconds(150)).await.unwrap();
        assert_eq!(bodies(&streams, 0, Position::Earliest).await.unwrap(), numbered(150..200));
        assert_eq!(streams.damage().segments, 0);
    }
}

fn at_second(body: &str) -> Timestamp {
    at(body.parse().unwrap())
}

#[tokio::test]
async fn a_segment_that_is_gone_is_told_and_passed_over() {
    let memory = Arc::new(Memory::default());
    let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
    for body in numbered(0..200) {
        streams.append(&id(), 0, vec![record(1, &body)]).await.unwrap();
    }
    drop(streams);
    for number in [0, 1] {
        let mut image = memory.image();
        let gone = image.keys().nth(number).unwrap().clone();
        image.remove(&gone);
        let streams = open_image(&image).unwrap();
        let (found, lost) = readable(&streams, 0).await;
        assert_eq!(lost.len(), 1, "{lost:?}");
        let (from, to) = (lost[0].first_sequence, lost[0].next_sequence);
        let expected = numbered(0..200);
        let (from, to) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
        assert_eq!(found, [&expected[..from], &expected[to..]].concat());
        assert!(to - from > 10);
    }
}

#[tokio::test]
async fn a_failing_disk_fails_appends_and_the_log_goes_on_when_it_can() {
    for fault in ["write", "sync"] {
        let memory = Arc::new(Memory::default());
        let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
        let set = |name: &str, broken: bool| match name {
            "write" => memory.faults.write.store(broken, Ordering::SeqCst),
            "sync" => memory.faults.sync.store(broken, Ordering::SeqCst),
            _ => memory.faults.create.store(broken, Ordering::SeqCst),
        };
        streams.append(&id(), 0, vec![record(1, "before")]).await.unwrap();
        set(fault, true);
        set("create", true);
        for _ in 0..3 {
            let failed = streams.append(&id(), 0, vec![record(2, "lost")]).await;
            assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
            assert_eq!(streams.read(&id(), 0, Position::Earliest, 9).await.unwrap().len(), 1);
        }
        set(fault, false);
        let failed = streams.append(&id(), 0, vec![record(2, "lost")]).await;
        assert!(failed.is_err(), "the damaged segment was used again");
        assert!(streams.is_failing() && streams.try_to_write().await.is_err() && streams.is_failing());
        set("create", false);
        assert!(streams.try_to_write().await.is_ok() && !streams.is_failing());
        assert_eq!(streams.append(&id(), 0, vec![record(3, "after")]).await.unwrap().first_sequence, 1);
        assert_eq!(bodies(&streams, 0, Position::Earliest).await.unwrap(), ["before", "after"]);
        drop(streams);
        let streams = open_image(&memory.image()).unwrap();
        assert_eq!(bodies(&streams, 0, Position::Earliest).await.unwrap(), ["before", "after"]);
    }
}

#[tokio::test]
async fn bytes_behind_a_sealed_end_are_not_taken_for_records() {
    let memory = Arc::new(Memory::default());
    let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
    streams.append(&id(), 0, vec![record(1, "before")]).await.unwrap();
    memory.faults.sync.store(true, Ordering::SeqCst);
    streams.append(&id(), 0, vec![record(2, "lost")]).await.unwrap_err();
    let torn = memory.image().into_iter().next().unwrap();
    memory.faults.sync.store(false, Ordering::SeqCst);
    streams.append(&id(), 0, vec![record(3, "after")]).await.unwrap();
    drop(streams);
    // The cut of the failed segment did not reach the disk: its unacknowledged bytes are back.
    let mut image = memory.image();
    image.insert(torn.0, torn.1);
    let streams = open_image(&image).unwrap();
    assert_eq!(bodies(&streams, 0, Position::Earliest).await.unwrap(), ["before", "after"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_segment_of_random_bytes_never_panics_and_never_gives_a_wrong_record(
        garbage in proptest::collection::vec(any::<u8>(), 0..600), keep in 0_usize..500,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (image, _, acknowledged) = small_log().await;
            let (name, bytes) = image.first_key_value().unwrap();
            let keep = keep.min(bytes.len());
            let mut mixed = bytes[..keep].to_vec();
            mixed.extend_from_slice(&garbage);
            let Ok(streams) = open_image(&Image::from([(name.clone(), mixed)])) else { return };
            let found = all(&streams).await.unwrap();
            let known: Vec<_> = acknowledged.iter().map(|(_, body)| body.clone()).collect();
            assert!(known.starts_with(&found), "{found:?}");
        });
    }
}

// Check and repair.

async fn several_segments() -> Image {
    let memory = Arc::new(Memory::default());
    let streams = opened(Medium::Memory(Arc::clone(&memory)), SETTINGS).await;
    for (second, body) in numbered(0..200).iter().enumerate() {
        streams.append(&id(), 0, vec![record(i64::try_from(second).unwrap(), body)]).await.unwrap();
    }
    drop(streams);
    memory.image()
}

#[tokio::test]
async fn a_check_names_segment_place_and_numbers_and_changes_nothing() {
    let image = several_segments().await;
    assert!(image.len() > 3);
    let check = |image: &Image| {
        let memory = Memory::from_image(image);
        let report = repair::check(&Medium::Memory(Arc::clone(&memory))).unwrap();
        assert_eq!(memory.image(), *image, "a check changed something");
        (report.is_sound, report.lines.join("\n"))
    };
    let (is_sound, said) = check(&image);
    assert!(is_sound && said == format!("{} segments and 200 events were read.", image.len()), "{said}");
    for segment in [1, image.len() - 1] {
        let name = image.keys().nth(segment).unwrap();
        let mut damaged = image.clone();
        let bytes = damaged.get_mut(name).unwrap();
        let number = (0..200).find(|number| {
            let body = format!("{number:060}");
            bytes.windows(60).any(|window| window == body.as_bytes())
        });
        // The second event of the segment.
        let number = number.unwrap() + 1;
        let body = format!("{number:060}");
        let at = bytes.windows(60).position(|window| window == body.as_bytes()).unwrap();
        bytes[at] ^= 1;
        let (is_sound, said) = check(&damaged);
        assert!(!is_sound, "{said}");
        let lost = format!("{name}: cannot read records {number} to {number} of {}, partition 0", id());
        assert!(said.contains(&lost) && said.contains("199 events were read"), "{said}");
        assert!(said.contains(&format!("{name} at {}: ", at - 36 - 4 - 1)), "{said}");
    }
    let mut headless = image.clone();
    headless.pop_first();
    let (is_sound, said) = check(&headless);
    assert!(!is_sound && said.contains("the segment before it is gone, cannot read records 0 to"), "{said}");
}

#[tokio::test]
async fn a_damaged_opening_is_made_anew_from_the_segment_before() {
    let image = several_segments().await;
    let name = image.keys().nth(2).unwrap();
    for at in (0..200).step_by(3) {
        let mut damaged = image.clone();
        damaged.get_mut(name).unwrap()[at] ^= 0x40;
        if open_image(&damaged).is_ok() {
            continue;
        }
        let memory = Memory::from_image(&damaged);
        let report = repair::repair(&Medium::Memory(Arc::clone(&memory)), SETTINGS, None).unwrap();
        assert!(report.lines[0].contains("was made anew"), "{report:?}");
        let after = memory.image();
        assert_eq!(after[&format!("{name}.before-repair")], damaged[name]);
        assert_eq!(
            bodies(&open_image(&after).unwrap(), 0, Position::Earliest).await.unwrap(),
            numbered(0..200)
        );
    }
    let mut hopeless = image.clone();
    hopeless.values_mut().next().unwrap()[9] ^= 1;
    let repaired = repair::repair(&Medium::Memory(Memory::from_image(&hopeless)), SETTINGS, None);
    assert!(matches!(repaired, Err(StoreError::Corrupt(_))), "{repaired:?}");
}

#[tokio::test]
async fn events_that_were_cut_off_are_read_back_once() {
    let (image, _, acknowledged) = small_log().await;
    let (name, bytes) = image.first_key_value().unwrap();
    // A server cut everything behind a bad record off and went on.
    let start = usize::try_from(acknowledged[1].0).unwrap();
    let mut cut = bytes[start..].to_vec();
    cut[20] ^= 1;
    let cut_name = format!("{name}.cut-{start}");
    let memory = Memory::from_image(&Image::from([(name.clone(), bytes[..start].to_vec())]));
    let streams = Streams::open_at(Medium::Memory(Arc::clone(&memory)), SETTINGS, None).unwrap();
    streams.append(&id(), 0, vec![record(9, "after")]).await.unwrap();
    drop(streams);
    let mut image = memory.image();
    image.insert(cut_name.clone(), cut.clone());
    let expected = ["body-0", "body-1", "after", "body-4", "once", "body-3", "body-5"];
    for _ in 0..2 {
        let memory = Memory::from_image(&image);
        let medium = Medium::Memory(Arc::clone(&memory));
        let found = repair::check(&medium).unwrap();
        assert!(
            !found.is_sound && found.lines.iter().any(|line| line.contains("4 events were cut off")),
            "{found:?}"
        );
        let report = repair::repair(&medium, SETTINGS, None).unwrap();
        assert!(report.lines[0].contains("4 events were read back"), "{report:?}");
        assert!(repair::check(&medium).unwrap().is_sound);
        let again = repair::repair(&medium, SETTINGS, None).unwrap();
        assert_eq!(again.lines[0], "There is nothing to repair.");
        image = memory.image();
        assert_eq!(image[&format!("{cut_name}.read-back")], cut);
        let mut survivors = all(&open_image(&image).unwrap()).await.unwrap();
        survivors.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(survivors, expected);
        // A crash before the file got its new name.
        image.insert(cut_name.clone(), cut.clone());
    }
}
