//! Opus in Ogg (RFC 3533, RFC 7845): pages written as they fill or age, so that what is on the disk can be played at any time.
//!
//! Pages are made in memory and then written whole. What is told only at the end (channels, what was lost) goes to the file's two first
//! pages, which are written again at their old length.

use std::{
    io::{self, SeekFrom},
    time::Duration,
};

use ogg::{PacketWriteEndInfo, PacketWriter};

use crate::{
    Sink, SyncPoint,
    audio::{PRE_SKIP, Unit},
    opus::RATE,
    tags::Tags,
    timeline::time,
};

/// How old the oldest sound of a page may get before the page is written, whatever of that it waited for others. A pause of DTX (400 ms
/// without a packet) just before it and what is between two looks included, less than a second: so much is missing after a kill at the worst
/// moment. Less would only cost: a disk that is synced with every page, two of them a second.
const PAGE_AGE: Duration = Duration::from_millis(400);
/// What a page spans at most, in samples: a second. Time passes for its sound and not for what is filled before it, so age alone does not say it.
const PAGE_SPAN: u64 = RATE as u64;
/// Segments of a page.
const SEGMENTS: usize = 255;
/// Bytes of a page's head before its segments.
const HEAD: usize = 27;
/// Where in a page its flags are, and its checksum.
const FLAGS: usize = 5;
const CHECKSUM: std::ops::Range<usize> = 22..26;
/// The flag of a stream's last page.
pub(crate) const LAST_PAGE: u8 = 4;
/// Where in a page its stream's number is.
const SERIAL: std::ops::Range<usize> = 14..18;
/// What `OpusTags` calls what wrote it; who recorded is a comment.
const VENDOR: &str = "sluice recording";

/// An Ogg file that is being written.
#[derive(Debug)]
pub(crate) struct OggFile<S> {
    sink: S,
    channels: u8,
    tags: Tags,
    head_len: u64,
    serial: u32,
    pages: Pages,
    /// Sound of the page that is not written yet, the segments it takes, and when its oldest arrived.
    page: Vec<Unit>,
    segments: usize,
    oldest: Duration,
    /// Length of the file up to its last whole page, and that page.
    whole: u64,
    last_page: Vec<u8>,
    kept: Kept,
    /// Whether a page could not be written. None is written after it: there would be a hole.
    failed: bool,
}

/// What is in a file's whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Packets, as they were sent.
    pub(crate) packets: u64,
    /// Samples of what stands for missing ones.
    filled: u64,
    /// Where the last page ends, in samples.
    end: u64,
}

impl Kept {
    fn push(&mut self, unit: &Unit) {
        let samples = u64::from(unit.samples);
        self.packets += u64::from(unit.sent);
        self.filled += if unit.sent { 0 } else { samples };
        self.end = unit.position + samples;
    }

    /// What a file plays that ends here.
    pub(crate) fn duration(self) -> Duration {
        time(self.end.saturating_sub(PRE_SKIP.into()), RATE)
    }

    /// Time with nothing that was sent.
    pub(crate) const fn filled(self) -> Duration {
        time(self.filled, RATE)
    }
}

/// Makes pages.
struct Pages(PacketWriter<'static, Vec<u8>>);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

impl<S: Sink> OggFile<S> {
    /// Begins a file.
    pub(crate) fn new(mut sink: S, channels: u8, tags: Tags) -> io::Result<Self> {
        let reserve = opus_tags(&tags).len() + Tags::RESERVED;
        let serial = serial_of(&tags);
        let mut pages = Pages(PacketWriter::new(Vec::new()));
        write_head(&mut pages.0, serial, channels, &tags, reserve)?;
        let head = std::mem::take(pages.0.inner_mut());
        sink.write_all(&head)?;
        sink.sync(SyncPoint::Page)?;
        let whole = head.len() as u64;
        Ok(Self {
            sink,
            channels,
            tags,
            head_len: whole,
            serial,
            pages,
            page: Vec::new(),
            segments: 0,
            oldest: Duration::ZERO,
            whole,
            last_page: Vec::new(),
            kept: Kept::default(),
            failed: false,
        })
    }

    /// Takes the next packet of the row.
    pub(crate) fn push(&mut self, unit: Unit) -> io::Result<()> {
        if self.failed {
            return Ok(());
        }
        let segments = unit.packet.len() / 255 + 1;
        let end = unit.position + u64::from(unit.samples);
        let is_long = self.page.first().is_some_and(|first| end - first.position > PAGE_SPAN);
        let is_full = is_long || self.segments + segments > SEGMENTS;
        let written = if is_full { self.write_page(None) } else { Ok(()) };
        if self.page.is_empty() {
            self.oldest = unit.arrival;
        }
        self.oldest = self.oldest.min(unit.arrival);
        self.segments += segments;
        self.page.push(unit);
        written
    }

    /// Writes what has become old.
    pub(crate) fn flush(&mut self, now: Duration) -> io::Result<()> {
        if self.page.is_empty() || now.saturating_sub(self.oldest) < PAGE_AGE {
            return Ok(());
        }
        self.write_page(None)
    }

    /// Says of the file that it has so many channels.
    pub(crate) fn set_channels(&mut self, channels: u8) -> io::Result<()> {
        if channels == self.channels {
            return Ok(());
        }
        self.channels = channels;
        self.write_head_again()
    }

    /// Writes the stream's last page: `playable` samples of the file are to be heard.
    pub(crate) fn end(&mut self, playable: u64) -> io::Result<()> {
        let written = if self.failed { Ok(()) } else { self.write_page(Some(playable + u64::from(PRE_SKIP))) };
        // Of what a full disk did not take, the last whole page becomes the last.
        let ended = if self.failed { self.end_with_last_page() } else { Ok(()) };
        written.and(ended)
    }

    /// What is in the file, if not everything could be written.
    pub(crate) fn shortened(&self) -> Option<Kept> {
        self.failed.then_some(self.kept)
    }

    /// Completes the file once it has [ended](Self::end).
    pub(crate) fn finish(&mut self, tags: Tags) -> io::Result<()> {
        self.tags = tags;
        let head = self.write_head_again();
        head.and(self.sink.sync(SyncPoint::End))
    }

    /// The file, as far as it is written.
    pub(crate) const fn sink(&self) -> &S {
        &self.sink
    }

    /// The file.
    pub(crate) fn into_sink(self) -> S {
        self.sink
    }

    /// Writes the page, the stream's last one if it is told where the stream ends.
    fn write_page(&mut self, end: Option<u64>) -> io::Result<()> {
        let count = self.page.len();
        if count == 0 {
            return Ok(());
        }
        self.segments = 0;
        let mut kept = self.kept;
        for (index, unit) in self.page.drain(..).enumerate() {
            kept.push(&unit);
            let position = unit.position + u64::from(unit.samples);
            let (info, position) = match end {
                _ if index + 1 < count => (PacketWriteEndInfo::NormalPacket, position),
                Some(end) => (PacketWriteEndInfo::EndStream, end.min(position)),
                None => (PacketWriteEndInfo::EndPage, position),
            };
            self.pages.0.write_packet(unit.packet, self.serial, info, position)?;
        }
        let page = self.pages.0.inner_mut();
        // The head may have been written again since, or half of it.
        let placed = self.sink.seek(SeekFrom::Start(self.whole));
        placed.and_then(|_| self.sink.write_all(page)).inspect_err(|_| self.failed = true)?;
        self.whole += page.len() as u64;
        self.kept = kept;
        std::mem::swap(&mut self.last_page, page);
        page.clear();
        self.sink.sync(SyncPoint::Page).inspect_err(|_| self.failed = true)
    }

    /// Cuts half a page off and marks the one before it as the last.
    fn end_with_last_page(&mut self) -> io::Result<()> {
        self.sink.truncate(self.whole)?;
        let page = &mut self.last_page;
        if page.is_empty() {
            return Ok(());
        }
        mark_last(page);
        self.sink.seek(SeekFrom::Start(self.whole - page.len() as u64))?;
        self.sink.write_all(page)
    }

    fn write_head_again(&mut self) -> io::Result<()> {
        let mut pages = PacketWriter::new(Vec::new());
        // What is before the comments: two heads of pages, and the first page's packet.
        let comments = comments_len(self.head_len as usize);
        write_head(&mut pages, self.serial, self.channels, &self.tags, comments)?;
        let head = pages.into_inner();
        debug_assert_eq!(head.len() as u64, self.head_len, "written again at its old length");
        self.sink.seek(SeekFrom::Start(0))?;
        self.sink.write_all(&head)
    }
}

/// The number of a recording's stream. Streams that are chained or multiplexed must have different ones (RFC 3533 4), so it is
/// made of the recording's id: FNV-1a.
fn serial_of(tags: &Tags) -> u32 {
    let id = tags.get("RECORDING").unwrap_or_default();
    id.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Writes both first pages, the comments with zeros up to `reserve` bytes (RFC 7845 5.2).
fn write_head(
    pages: &mut PacketWriter<'static, Vec<u8>>,
    serial: u32,
    channels: u8,
    tags: &Tags,
    reserve: usize,
) -> io::Result<()> {
    pages.write_packet(opus_head(channels), serial, PacketWriteEndInfo::EndPage, 0)?;
    let mut comments = opus_tags(tags);
    comments.resize(reserve, 0);
    pages.write_packet(comments, serial, PacketWriteEndInfo::EndPage, 0)
}

/// `OpusHead` (RFC 7845 5.1): mono or stereo, no gain.
pub(crate) fn opus_head(channels: u8) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend_from_slice(&(PRE_SKIP as u16).to_le_bytes());
    head.extend_from_slice(&RATE.to_le_bytes());
    head.extend_from_slice(&[0; 3]);
    head
}

const OPUS_HEAD: usize = 19;

/// `OpusTags` (RFC 7845 5.2).
fn opus_tags(tags: &Tags) -> Vec<u8> {
    let mut out = b"OpusTags".to_vec();
    push_string(&mut out, VENDOR);
    out.extend_from_slice(&(tags.0.len() as u32).to_le_bytes());
    for (name, value) in &tags.0 {
        push_string(&mut out, &format!("{name}={value}"));
    }
    out
}

fn push_string(out: &mut Vec<u8>, string: &str) {
    out.extend_from_slice(&(string.len() as u32).to_le_bytes());
    out.extend_from_slice(string.as_bytes());
}

/// Reads what [`opus_tags`] wrote.
pub(crate) fn read_opus_tags(packet: &[u8]) -> Option<Tags> {
    let mut rest = packet.strip_prefix(b"OpusTags")?;
    read_string(&mut rest)?;
    let count = read_u32(&mut rest)?;
    let mut tags = Tags::default();
    for _ in 0..count {
        let comment = read_string(&mut rest)?;
        let (name, value) = comment.split_once('=')?;
        tags.0.push((name.to_owned(), value.to_owned()));
    }
    Some(tags)
}

fn read_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

fn read_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let len = read_u32(bytes)? as usize;
    let (string, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    std::str::from_utf8(string).ok()
}

/// Bytes of the comments' packet in both first pages of `head` bytes. Every 255 of them have a byte of their own in the page's head.
const fn comments_len(head: usize) -> usize {
    let packet_and_segments = head - (HEAD + 1 + OPUS_HEAD) - HEAD;
    // n + n / 255 + 1 bytes for n.
    (packet_and_segments - 1) - (packet_and_segments - 1) / 256
}

/// The first pages of a file of `head` bytes, with other tags.
pub(crate) fn head_with(serial: u32, channels: u8, tags: &Tags, head: usize) -> io::Result<Vec<u8>> {
    let mut pages = PacketWriter::new(Vec::new());
    write_head(&mut pages, serial, channels, tags, comments_len(head))?;
    Ok(pages.into_inner())
}

/// A page as it lies in a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> Page<'a> {
    /// The page at the beginning of `bytes`, if it is whole and its checksum right.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let head = bytes.get(..HEAD).filter(|head| head.starts_with(b"OggS\0"))?;
        let lacing = bytes.get(HEAD..HEAD + usize::from(head[HEAD - 1]))?;
        let len = HEAD + lacing.len() + lacing.iter().map(|&segment| usize::from(segment)).sum::<usize>();
        let page = Self { bytes: bytes.get(..len)? };
        (checksum(page.bytes).to_le_bytes() == page.bytes[CHECKSUM]).then_some(page)
    }

    /// Position at its end, in samples, those to skip included.
    pub(crate) fn position(self) -> u64 {
        u64::from_le_bytes(self.bytes[6..14].try_into().expect("invariant: a page has a head"))
    }

    /// Its stream's number.
    pub(crate) fn serial(self) -> u32 {
        u32::from_le_bytes(self.bytes[SERIAL].try_into().expect("invariant: a page has a head"))
    }

    /// Whether it is a stream's last.
    pub(crate) fn is_last(self) -> bool {
        self.bytes[FLAGS] & LAST_PAGE != 0
    }

    /// Its packets. Ours never go on in the next page.
    pub(crate) fn packets(self) -> impl Iterator<Item = &'a [u8]> {
        let segments = usize::from(self.bytes[HEAD - 1]);
        let (lacing, mut body) = self.bytes[HEAD..].split_at(segments);
        lacing.split_inclusive(|&segment| segment < 255).map(move |lacing| {
            let len = lacing.iter().map(|&segment| usize::from(segment)).sum();
            let (packet, rest) = body.split_at(len);
            body = rest;
            packet
        })
    }
}

/// Makes a page its stream's last.
pub(crate) fn mark_last(page: &mut [u8]) {
    page[FLAGS] |= LAST_PAGE;
    let checksum = checksum(page);
    page[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// The checksum of a page (RFC 3533 6): CRC-32 of polynomial 0x04c11db7, unreflected, its own field taken as zero.
fn checksum(page: &[u8]) -> u32 {
    let field = |(at, &byte): (usize, &u8)| if CHECKSUM.contains(&at) { 0 } else { byte };
    page.iter()
        .enumerate()
        .map(field)
        .fold(0, |crc: u32, byte| crc << 8 ^ CRC_TABLE[usize::from((crc >> 24) as u8 ^ byte)])
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = crc << 1 ^ if crc >> 31 == 1 { 0x04c1_1db7 } else { 0 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, io::Cursor};

    use super::*;

    fn unit(position: u64, len: usize) -> Unit {
        Unit { position, samples: 960, arrival: Duration::ZERO, sent: true, packet: Cow::Owned(vec![0xf8; len]) }
    }

    fn pages(mut bytes: &[u8]) -> Vec<Page<'_>> {
        let mut pages = Vec::new();
        while let Some(page) = Page::parse(bytes) {
            bytes = &bytes[page.bytes.len()..];
            pages.push(page);
        }
        assert!(bytes.is_empty(), "all of it is pages");
        pages
    }

    #[test]
    fn head_and_tags_have_a_page_each_and_keep_their_length_when_written_again() {
        for extra in 0..600 {
            let tags = Tags(vec![("ROOM".to_owned(), "r".repeat(extra))]);
            let mut file = OggFile::new(Cursor::new(Vec::new()), 1, tags).expect("memory");
            let before = file.whole;
            file.set_channels(2).expect("memory");
            file.push(unit(0, 100)).expect("memory");
            let tags = Tags(vec![("ROOM".to_owned(), "r".repeat(extra)), ("LOST".to_owned(), "17".to_owned())]);
            file.end(960 - 312).expect("memory");
            file.finish(tags.clone()).expect("memory");
            let bytes = file.into_sink().into_inner();
            let pages = pages(&bytes);
            assert_eq!(pages[0].bytes.len() + pages[1].bytes.len(), before as usize);
            assert_eq!(pages[0].packets().next(), Some(&opus_head(2)[..]));
            assert_eq!(pages[1].packets().next().and_then(read_opus_tags), Some(tags));
        }
    }

    #[test]
    fn streams_of_two_recordings_have_different_numbers_and_all_pages_of_one_the_same() {
        let serial = |id: &str| {
            let tags = Tags(vec![("RECORDING".to_owned(), id.to_owned())]);
            let mut file = OggFile::new(Cursor::new(Vec::new()), 1, tags.clone()).expect("memory");
            for index in 0..100 {
                file.push(unit(index * 960, 100)).expect("memory");
            }
            file.set_channels(2).expect("memory");
            file.end(100 * 960 - 312).expect("memory");
            file.finish(tags).expect("memory");
            let bytes = file.into_sink().into_inner();
            let serials: Vec<_> = pages(&bytes).into_iter().map(Page::serial).collect();
            assert!(serials.len() > 3 && serials.windows(2).all(|pair| pair[0] == pair[1]), "{serials:?}");
            serials[0]
        };
        assert_eq!(serial("5Yw1tT0cUqZrVn4mJk2xBe"), serial("5Yw1tT0cUqZrVn4mJk2xBe"));
        assert_ne!(serial("5Yw1tT0cUqZrVn4mJk2xBe"), serial("5Yw1tT0cUqZrVn4mJk2xBf"));
    }

    #[test]
    fn a_packet_never_goes_on_in_the_next_page() {
        let mut file = OggFile::new(Cursor::new(Vec::new()), 1, Tags::default()).expect("memory");
        for index in 0..200 {
            file.push(unit(index * 960, 1 + index as usize * 7)).expect("memory");
        }
        file.end(200 * 960 - 312).expect("memory");
        file.finish(Tags::default()).expect("memory");
        let bytes = file.into_sink().into_inner();
        let pages = pages(&bytes);
        let packets: Vec<_> = pages[2..].iter().flat_map(|page| page.packets()).map(<[u8]>::len).collect();
        assert_eq!(packets, (0..200).map(|index| 1 + index * 7).collect::<Vec<_>>());
        assert!(pages.last().is_some_and(|page| page.is_last() && page.position() == 200 * 960));
        assert!(pages[..pages.len() - 1].iter().all(|page| !page.is_last()));
    }

    #[test]
    fn a_page_is_written_when_its_oldest_sound_is_old() {
        let mut file = OggFile::new(Cursor::new(Vec::new()), 1, Tags::default()).expect("memory");
        let head = file.whole;
        file.push(unit(0, 10)).expect("memory");
        file.flush(Duration::from_millis(399)).expect("memory");
        assert_eq!(file.whole, head);
        file.flush(Duration::from_millis(400)).expect("memory");
        assert!(file.whole > head);
    }
}
