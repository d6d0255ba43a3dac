//! The bytes of `SQLite`'s write-ahead log (<https://www.sqlite.org/fileformat2.html#walformat>), read before `SQLite` reads them:
//! it takes the first bad frame for the end and says nothing. Tells an end that a crash tore from damage. Never writes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::{DATABASE, PAGE_BYTES};

pub(super) const HEADER_BYTES: usize = 32;
pub(super) const FRAME_HEADER_BYTES: usize = 24;
/// The lowest bit tells the byte order of the words that are summed.
const MAGIC: u32 = 0x377f_0682;
const VERSION: u32 = 3_007_000;
const BUFFER_BYTES: usize = 1024 * 1024;

/// The cumulative checksum: each frame goes on from the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum(u32, u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Big,
    Little,
}

/// One page that was written to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Counted from 1.
    pub(crate) number: u32,
    /// The first byte of its header in the file.
    pub(crate) position: u64,
    pub(crate) page: u32,
    /// The database's length in pages where the frame ends a transaction, else 0.
    pub(crate) commit_pages: u32,
    pub(crate) state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Whole,
    /// One byte is wrong, and its right value follows from the checksum; `None` where the page itself is right.
    Mendable(Option<Mend>),
    /// One byte is wrong, and the checksum leaves more than one choice.
    Flipped,
    /// Its content is not known.
    Lost,
}

/// The four bytes that belong at this place of a frame, counted from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mend {
    pub(crate) at: usize,
    pub(crate) word: [u8; 4],
}

/// Where a log is damaged though what lay there was durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// 0 for the header.
    pub(crate) frame: u32,
    pub(crate) position: u64,
    /// Transactions that end at the damage or behind it, and that `SQLite` would silently drop.
    pub(crate) commits_behind: usize,
}

/// What lies in a log, up to the end of the last transaction that is known to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Survey {
    pub(crate) page_bytes: usize,
    pub(crate) frames: Vec<Frame>,
    pub(crate) damage: Option<Damage>,
}

impl Survey {
    pub(crate) fn commits(&self) -> usize {
        self.frames.iter().filter(|frame| frame.commits()).count()
    }

    /// How many frames at the start have their content, up to the end of a transaction.
    pub(crate) fn unbroken(&self) -> usize {
        let known = self.frames.iter().take_while(|frame| frame.has_content());
        known.enumerate().filter(|(_, frame)| frame.commits()).last().map_or(0, |(at, _)| at + 1)
    }
}

impl Frame {
    /// Whether it ends a transaction. Only what is torn or of an earlier log is `Lost` without anything good behind it.
    fn commits(&self) -> bool {
        self.commit_pages != 0 && self.state != State::Lost
    }

    pub(crate) fn has_content(&self) -> bool {
        matches!(self.state, State::Whole | State::Mendable(_))
    }

    /// It may be the mark of a transaction's end that is wrong; then the transaction counts. Or it is the page's number; then
    /// nobody knows which page it was.
    fn doubt(&mut self, explained: &[(Option<Mend>, Sum)]) {
        self.state = State::Flipped;
        if explained.iter().any(|(mend, _)| mend.is_some_and(|mend| mend.at == 0)) {
            self.page = 0;
        }
        let marks = explained.iter().filter_map(|(mend, _)| mend.filter(|mend| mend.at == 4));
        self.commit_pages =
            marks.map(|mend| u32::from_be_bytes(mend.word)).chain([self.commit_pages]).max().unwrap_or(0);
    }

    fn mend(&mut self, mend: Option<Mend>) {
        self.state = State::Mendable(mend);
        match mend {
            Some(Mend { at: 0, word }) => self.page = u32::from_be_bytes(word),
            Some(Mend { at: 4, word }) => self.commit_pages = u32::from_be_bytes(word),
            _ => {}
        }
    }
}

/// Reads the log beside a database; `None` where there is none, or none that ever began.
pub(crate) fn survey(path: &Path) -> io::Result<Option<Survey>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let page_bytes = page_bytes(&path.with_file_name(DATABASE));
    read(&mut BufReader::with_capacity(BUFFER_BYTES, file), page_bytes)
}

/// What the database's header says; what this program writes, where there is none.
fn page_bytes(database: &Path) -> usize {
    let mut bytes = [0; 18];
    let is_there = File::open(database).and_then(|mut file| file.read_exact(&mut bytes)).is_ok();
    let size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65_536,
        size => usize::from(size),
    };
    if is_there && may_be_of_pages(size) { size } else { PAGE_BYTES }
}

fn may_be_of_pages(bytes: usize) -> bool {
    bytes.is_power_of_two() && (512..=65_536).contains(&bytes)
}

/// The header is synced before any frame behind it is written, so one that is cut short has no frames. A header that cannot be
/// believed is taken for one of pages of `page_bytes`.
pub(crate) fn read(log: &mut impl Read, page_bytes: usize) -> io::Result<Option<Survey>> {
    let mut bytes = [0; HEADER_BYTES];
    if !fill(log, &mut bytes)? {
        return Ok(None);
    }
    let header = Header::parse(&bytes, page_bytes);
    let mut frame = vec![0; FRAME_HEADER_BYTES + header.page_bytes];
    let mut walk = Walk::new(&header);
    while fill(log, &mut frame)? {
        walk.step(&frame);
    }
    Ok(Some(walk.end(&header)))
}

/// Whether there was enough to fill the buffer.
fn fill(log: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match log.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

struct Header {
    is_whole: bool,
    order: Order,
    page_bytes: usize,
    /// Tells the frames of this log from those of an earlier one that it overwrites. `None` where it cannot be believed.
    salt: Option<[u8; 8]>,
    /// The sum that the first frame goes on from, and what it should have been.
    sums: [Sum; 2],
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES], page_bytes: usize) -> Self {
        let field = |at| u32_at(bytes, at);
        let order = if field(0) & 1 == 1 { Order::Big } else { Order::Little };
        let stored = Sum(field(24), field(28));
        let computed = Sum(0, 0).over(order, &bytes[..24]);
        let size = field(8) as usize;
        let is_sane = field(0) & !1 == MAGIC && field(4) == VERSION && may_be_of_pages(size);
        if is_sane && stored == computed {
            let salt = Some(salt_of(&bytes[16..24]));
            return Self { is_whole: true, order, page_bytes: size, salt, sums: [stored; 2] };
        }
        // What this program would have written.
        let order = if cfg!(target_endian = "big") { Order::Big } else { Order::Little };
        let computed = Sum(0, 0).over(order, &bytes[..24]);
        Self { is_whole: false, order, page_bytes, salt: None, sums: [stored, computed] }
    }
}

/// The way through the frames of a log.
struct Walk {
    order: Order,
    salt: Option<[u8; 8]>,
    /// What the next frame may go on from: the sum that the frame before carries, and the one that it should.
    before: [Sum; 2],
    /// Whether the frame before is this log's beyond doubt.
    is_certain: bool,
    frames: Vec<Frame>,
    position: u64,
}

impl Walk {
    fn new(header: &Header) -> Self {
        Self {
            order: header.order,
            salt: header.salt,
            before: header.sums,
            is_certain: true,
            frames: Vec::new(),
            position: HEADER_BYTES as u64,
        }
    }

    fn step(&mut self, bytes: &[u8]) {
        let mut frame = Frame {
            number: u32::try_from(self.frames.len() + 1).unwrap_or(u32::MAX),
            position: self.position,
            page: u32_at(bytes, 0),
            commit_pages: u32_at(bytes, 4),
            state: State::Lost,
        };
        self.judge(&mut frame, bytes);
        self.is_certain = frame.has_content();
        self.position += bytes.len() as u64;
        self.frames.push(frame);
    }

    fn judge(&mut self, frame: &mut Frame, bytes: &[u8]) {
        let stored = Sum(u32_at(bytes, 16), u32_at(bytes, 20));
        let sums = self.before.map(|sum| sum.over(self.order, &bytes[..8]).over(self.order, &bytes[24..]));
        self.before = [stored, sums[0]];
        // A damaged header does not tell the salt; the first frame does.
        let salt = *self.salt.get_or_insert_with(|| salt_of(&bytes[8..16]));
        let has_salt = salt == bytes[8..16];
        if frame.page != 0 && sums.contains(&stored) && (has_salt || self.is_certain) {
            frame.state = if has_salt { State::Whole } else { State::Mendable(None) };
            self.before = [stored; 2];
        } else if has_salt {
            let starts = if sums[0] == sums[1] { &sums[..1] } else { &sums[..] };
            let explained: Vec<_> =
                starts.iter().flat_map(|sum| explanations(self.order, bytes, *sum, stored)).collect();
            match explained[..] {
                [] => {}
                [(mend, sum)] => {
                    frame.mend(mend);
                    self.before = [sum; 2];
                }
                _ => frame.doubt(&explained),
            }
        }
    }

    /// Keeps what ends with a transaction. What lies behind was never acknowledged, or is an earlier log's.
    fn end(mut self, header: &Header) -> Survey {
        let last = self.frames.iter().rposition(Frame::commits).map_or(0, |at| at + 1);
        self.frames.truncate(last);
        let bad = self.frames.iter().find(|frame| frame.state != State::Whole);
        let first_bad = match bad {
            // Without frames there is nothing that a bad header could hide.
            _ if !header.is_whole => (last > 0).then_some((0, 0)),
            bad => bad.map(|frame| (frame.number, frame.position)),
        };
        let damage = first_bad.map(|(frame, position)| {
            let behind = self.frames.iter().filter(|one| one.number >= frame && one.commits());
            Damage { frame, position, commits_behind: behind.count() }
        });
        Survey { page_bytes: header.page_bytes, frames: self.frames, damage }
    }
}

impl Sum {
    fn over(self, order: Order, bytes: &[u8]) -> Self {
        bytes.chunks_exact(8).fold(self, |Self(first, second), pair| {
            let first = first.wrapping_add(order.word(pair, 0)).wrapping_add(second);
            Self(first, second.wrapping_add(order.word(pair, 4)).wrapping_add(first))
        })
    }

    fn bytes(self) -> [u8; 8] {
        (u64::from(self.0) << 32 | u64::from(self.1)).to_be_bytes()
    }
}

impl Order {
    fn word(self, bytes: &[u8], at: usize) -> u32 {
        let big = u32_at(bytes, at);
        if self == Self::Big { big } else { big.swap_bytes() }
    }

    fn bytes(self, word: u32) -> [u8; 4] {
        if self == Self::Big { word.to_be_bytes() } else { word.to_le_bytes() }
    }
}

/// Every byte that alone explains why a frame does not come to its sum, with the sum that is right then.
///
/// The sum is linear: a word that is off by `d` puts the two halves off by `d` times two neighbours of Fibonacci's numbers,
/// which depend on the place alone. So each place admits at most one `d`, and chance meets one about once in 10^13. Only the
/// highest byte of a word has several places, for those numbers repeat modulo 256.
fn explanations(order: Order, frame: &[u8], computed: Sum, stored: Sum) -> Vec<(Option<Mend>, Sum)> {
    let mut found = Vec::new();
    if differing_bytes(&computed.bytes(), &stored.bytes()) == 1 {
        found.push((None, computed));
    }
    let off = (stored.0.wrapping_sub(computed.0), stored.1.wrapping_sub(computed.1));
    let pairs = (FRAME_HEADER_BYTES..frame.len()).step_by(8).rev().chain([0]);
    let (mut first, mut second) = ((1, 1), (0, 1));
    for pair in pairs {
        for (at, factors) in [(pair, first), (pair + 4, second)] {
            let Some(d) = quotient(off, factors) else { continue };
            let word = order.bytes(order.word(frame, at).wrapping_add(d));
            if differing_bytes(&word, &frame[at..at + 4]) == 1 {
                found.push((Some(Mend { at, word }), stored));
            }
        }
        (first, second) = (a_pair_earlier(first), a_pair_earlier(second));
    }
    found
}

fn a_pair_earlier((a, b): (u32, u32)) -> (u32, u32) {
    let sum = a.wrapping_add(b);
    (sum, sum.wrapping_add(b))
}

/// The number that gives `off` when it is multiplied with both factors, of which one is odd.
fn quotient(off: (u32, u32), (a, b): (u32, u32)) -> Option<u32> {
    let d = if a & 1 == 1 { off.0.wrapping_mul(inverse(a)) } else { off.1.wrapping_mul(inverse(b)) };
    (d.wrapping_mul(a) == off.0 && d.wrapping_mul(b) == off.1).then_some(d)
}

/// Of an odd number, modulo 2^32; each step doubles the bits that are right, and three are at first.
fn inverse(odd: u32) -> u32 {
    (0..4).fold(odd, |guess, _| guess.wrapping_mul(2_u32.wrapping_sub(odd.wrapping_mul(guess))))
}

fn differing_bytes(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).filter(|(one, other)| one != other).count()
}

fn salt_of(bytes: &[u8]) -> [u8; 8] {
    bytes.try_into().expect("a salt is eight bytes")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
