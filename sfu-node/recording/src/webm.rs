//! Opus and VP8 in `WebM`: clusters of less than a second, each written whole, so that what is on the disk can be played at any time.
//!
//! ```text
//! EBML │ Segment: SeekHead Info Tracks Tags Void │ Cluster │ Cluster │ … │ Cues
//!        └─ written again at its old length: size of the picture, duration, what was lost, where the cues are
//! ```
//! Elements that occur once are written and read by the crate `mkv-element`. Those of which there are many are written here: its
//! encoding of sizes has no way to say 16,383 in two bytes without saying "unknown", and a frame may have any size.

use std::{
    cmp,
    io::{self, SeekFrom},
    time::Duration,
};

use mkv_element::{
    io::blocking_impl::{ReadFrom, WriteTo},
    prelude::{
        Audio, Channels, CodecDelay, CodecId, CodecPrivate, CueClusterPosition, CuePoint, CueTime, CueTrack,
        CueTrackPositions, Cues, DocType, DocTypeReadVersion, DocTypeVersion, Ebml, EbmlMaxIdLength, EbmlMaxSizeLength,
        EbmlReadVersion, EbmlVersion, Element, FlagDefault, FlagEnabled, FlagLacing, Header, Info, Language, MuxingApp,
        PixelHeight, PixelWidth, SamplingFrequency, Seek, SeekHead, SeekId, SeekPosition, SeekPreRoll, SimpleTag,
        TagLanguage, TagName, TagString, TimestampScale, TrackEntry, TrackNumber, TrackType, TrackUid, Tracks, Video,
        WritingApp,
    },
};

use crate::{
    Sink, SyncPoint,
    audio::{PRE_SKIP, Unit},
    ogg::opus_head,
    opus::RATE,
    tags::Tags,
    timeline::time,
    video::Picture,
};

/// The tracks' numbers.
pub(crate) const VIDEO: u8 = 1;
pub(crate) const AUDIO: u8 = 2;
/// How old the oldest block of a cluster may get before the cluster is written. Video may have waited for a retransmission before that, and then
/// does not wait here: less than a second in all, with the quarter of one between two looks.
const CLUSTER_AGE: Duration = Duration::from_millis(700);
/// What of a cluster waits for the other track, so that blocks lie in the order of their times, waits no longer than this.
const ORDER_AGE: Duration = Duration::from_millis(500);
/// Bytes of blocks that wait at most: a cluster is written before it has more. What a second of 3 Mbit/s has.
const MAX_CLUSTER: usize = 384 * 1_024;
/// Times within a cluster are 16 bits of milliseconds with a sign.
const MAX_SPAN: i64 = 30_000;
/// Entries of the index. When there are more, every other one goes: a longer recording has a coarser index.
const MAX_CUES: usize = 4_096;
/// Ids of elements.
const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
pub(crate) const CLUSTER: [u8; 4] = [0x1f, 0x43, 0xb6, 0x75];
const CUES: [u8; 4] = [0x1c, 0x53, 0xbb, 0x6b];
const VOID: u8 = 0xec;
const TIMESTAMP: u8 = 0xe7;
const SIMPLE_BLOCK: u8 = 0xa3;
/// A size of eight bytes that says nothing.
const UNKNOWN_SIZE: u64 = (1 << 56) - 1;
/// Bytes of the segment's head.
const SEGMENT_HEAD: usize = SEGMENT.len() + 8;

/// What a file begins with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Head {
    ebml: Ebml,
    info: Info,
    tracks: Tracks,
    pub(crate) tags: Tags,
    /// Bytes of the segment and where in it the cues are, once it is complete.
    pub(crate) complete: Option<Complete>,
}

/// What is known of a complete file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Complete {
    pub(crate) segment: u64,
    pub(crate) cues: Option<u64>,
}

impl Head {
    fn new(channels: Option<u8>, tags: Tags) -> Self {
        let mut track_entry = vec![video_track()];
        track_entry.extend(channels.map(audio_track));
        let app = tags.get("ENCODER").unwrap_or_default().to_owned();
        Self {
            ebml: ebml(),
            info: Info {
                timestamp_scale: TimestampScale(1_000_000),
                duration: Some(mkv_element::prelude::Duration(0.0)),
                muxing_app: MuxingApp("sluice recording".to_owned()),
                writing_app: WritingApp(app),
                ..Info::default()
            },
            tracks: Tracks { track_entry, ..Tracks::default() },
            tags,
            complete: None,
        }
    }

    /// The bytes, filled up to `len` of them.
    pub(crate) fn encode(&self, len: Option<usize>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        put(&self.ebml, &mut out)?;
        out.extend_from_slice(&SEGMENT);
        put_size(&mut out, self.complete.map_or(UNKNOWN_SIZE, |complete| complete.segment));
        let mut body = Vec::new();
        put(&self.info, &mut body)?;
        put(&self.tracks, &mut body)?;
        put(&tags_element(&self.tags), &mut body)?;
        let cues = self.complete.and_then(|complete| complete.cues);
        put(&SeekHead { seek: cues.map(seek_to_cues).into_iter().collect(), ..SeekHead::default() }, &mut out)?;
        out.extend_from_slice(&body);
        let len = len.unwrap_or(out.len() + 64 + Tags::RESERVED);
        let void = len.checked_sub(out.len() + 9).ok_or(io::ErrorKind::InvalidData)?;
        out.push(VOID);
        put_size(&mut out, void as u64);
        out.resize(len, 0);
        Ok(out)
    }

    /// Reads what a file begins with, up to its first cluster or its end, and says how long it is.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut rest = bytes;
        let ebml = Ebml::read_from(&mut rest).ok()?;
        rest = rest.strip_prefix(&SEGMENT)?;
        let (size, mut rest) = rest.split_first_chunk::<8>()?;
        let size = u64::from_be_bytes(*size) & UNKNOWN_SIZE;
        let (mut info, mut tracks, mut tags) = (None, None, None);
        let len = loop {
            let at = bytes.len() - rest.len();
            let (id, element, after) = split_element(rest)?;
            match id {
                id if id == *SeekHead::ID => {}
                id if id == *Info::ID => info = Some(Info::decode_body(&mut &element[..]).ok()?),
                id if id == *Tracks::ID => tracks = Some(Tracks::decode_body(&mut &element[..]).ok()?),
                id if id == *mkv_element::prelude::Tags::ID => {
                    tags = Some(mkv_element::prelude::Tags::decode_body(&mut &element[..]).ok()?);
                }
                // What is left free ends the head.
                _ => break at + (rest.len() - after.len()),
            }
            rest = after;
        };
        let tags = tags_of(&tags?);
        let complete = (size != UNKNOWN_SIZE).then_some(Complete { segment: size, cues: None });
        Some((Self { ebml, info: info?, tracks: tracks?, tags, complete }, len))
    }

    /// Length of what comes before the segment's own bytes, from which positions count.
    pub(crate) fn segment_start(&self) -> io::Result<u64> {
        let mut ebml = Vec::new();
        put(&self.ebml, &mut ebml)?;
        Ok((ebml.len() + SEGMENT_HEAD) as u64)
    }

    /// Says how long the file plays.
    pub(crate) fn set_duration(&mut self, duration: Duration) {
        self.info.duration = Some(mkv_element::prelude::Duration(duration.as_secs_f64() * 1e3));
    }

    /// Says how large the picture is; says whether that was not known.
    pub(crate) fn set_picture(&mut self, width: u16, height: u16) -> bool {
        let video = self.tracks.track_entry.iter_mut().find_map(|track| track.video.as_mut());
        video.is_some_and(|video| {
            let is_news = *video.pixel_width != u64::from(width) || *video.pixel_height != u64::from(height);
            video.pixel_width = PixelWidth(width.into());
            video.pixel_height = PixelHeight(height.into());
            is_news
        })
    }

    /// Size of the picture.
    pub(crate) fn picture(&self) -> (u16, u16) {
        let video = self.tracks.track_entry.iter().find_map(|track| track.video.as_ref());
        video.map_or((0, 0), |video| (*video.pixel_width as u16, *video.pixel_height as u16))
    }

    /// Channels of its audio, if it has any.
    pub(crate) fn channels(&self) -> Option<u8> {
        self.tracks.track_entry.iter().find_map(|track| track.audio.as_ref()).map(|audio| *audio.channels as u8)
    }

    fn set_channels(&mut self, channels: u8) {
        for track in self.tracks.track_entry.iter_mut().filter(|track| track.audio.is_some()) {
            *track = audio_track(channels);
        }
    }
}

/// A `WebM` file that is being written.
#[derive(Debug)]
pub(crate) struct WebmFile<S> {
    sink: S,
    head: Head,
    head_len: usize,
    segment_start: u64,
    /// Blocks that wait for their cluster to be written.
    blocks: Vec<Block>,
    bytes: usize,
    /// Time of the newest block of each track, by number.
    newest: [i64; 3],
    has_audio: bool,
    has_picture: bool,
    index: Index,
    kept: Kept,
    /// Length of the file up to its last whole cluster.
    whole: u64,
    /// Whether a cluster could not be written. None is written after it.
    failed: bool,
    cluster: Vec<u8>,
}

/// What is in a file's whole clusters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Pictures, and when the last of them is shown.
    pub(crate) pictures: u64,
    pub(crate) last_picture: Duration,
    /// How long the file plays.
    pub(crate) end: Duration,
    /// Packets of pictures that are not in it.
    pub(crate) packets_left: u64,
}

impl Kept {
    fn push(&mut self, block: &Block) {
        self.end = self.end.max(block.end);
        if block.track == VIDEO {
            self.pictures += 1;
            self.last_picture = self.last_picture.max(block.end);
            self.packets_left -= block.packets;
        }
    }
}

/// A frame of either track.
#[derive(Debug)]
struct Block {
    /// In milliseconds.
    at: i64,
    /// When what is heard of it ends, or when it is seen.
    end: Duration,
    /// Packets that it came in, if it is a picture.
    packets: u64,
    track: u8,
    keyframe: bool,
    arrival: Duration,
    data: Vec<u8>,
}

impl<S: Sink> WebmFile<S> {
    /// Begins a file with video, and with audio of so many channels.
    pub(crate) fn new(mut sink: S, channels: Option<u8>, tags: Tags) -> io::Result<Self> {
        let head = Head::new(channels, tags);
        let bytes = head.encode(None)?;
        sink.write_all(&bytes)?;
        sink.sync(SyncPoint::Page)?;
        Ok(Self {
            sink,
            segment_start: head.segment_start()?,
            head,
            head_len: bytes.len(),
            blocks: Vec::new(),
            bytes: 0,
            newest: [0; 3],
            has_audio: channels.is_some(),
            has_picture: false,
            index: Index::default(),
            kept: Kept::default(),
            whole: bytes.len() as u64,
            failed: false,
            cluster: Vec::new(),
        })
    }

    /// Takes the next packet of the audio.
    pub(crate) fn push_audio(&mut self, unit: &Unit) -> io::Result<()> {
        let at = ((unit.position * 1_000 + u64::from(RATE) / 2) / u64::from(RATE)) as i64;
        let heard = unit.position + u64::from(unit.samples);
        let end = time(heard.saturating_sub(PRE_SKIP.into()), RATE);
        let (arrival, data) = (unit.arrival, unit.packet.to_vec());
        // Every frame of Opus can be begun with.
        self.push(Block { at, end, packets: 0, track: AUDIO, keyframe: true, arrival, data })
    }

    /// Takes the next frame of the video.
    pub(crate) fn push_video(&mut self, picture: Picture) -> io::Result<()> {
        let Picture { at: end, frame } = picture;
        let mut said = Ok(());
        if let Some((width, height)) = frame.keyframe.filter(|_| !self.has_picture) {
            self.has_picture = true;
            if self.head.set_picture(width, height) {
                said = self.write_head_again();
            }
        }
        let at = ((end.as_micros() + 500) / 1_000) as i64;
        let (keyframe, packets) = (frame.keyframe.is_some(), frame.packets);
        self.kept.packets_left += packets;
        // Also where the head failed: what comes later refers to this one.
        let block = Block { at, end, packets, track: VIDEO, keyframe, arrival: frame.arrival, data: frame.data };
        said.and(self.push(block))
    }

    /// Says of the file that its audio has so many channels.
    pub(crate) fn set_channels(&mut self, channels: u8) -> io::Result<()> {
        if self.head.channels().is_none_or(|said| said == channels) {
            return Ok(());
        }
        self.head.set_channels(channels);
        self.write_head_again()
    }

    /// Writes what has become old.
    pub(crate) fn flush(&mut self, now: Duration) -> io::Result<()> {
        let is_old = self.blocks.iter().any(|block| now.saturating_sub(block.arrival) >= CLUSTER_AGE);
        if !is_old {
            return Ok(());
        }
        // What the other track has not come to yet may wait for it.
        let common = if self.has_audio && self.has_picture {
            cmp::min(self.newest[usize::from(AUDIO)], self.newest[usize::from(VIDEO)])
        } else {
            i64::MAX
        };
        self.write_blocks(|block| block.at <= common || now.saturating_sub(block.arrival) >= ORDER_AGE)
    }

    /// Writes all blocks, and where keyframes are.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        let written = if self.failed { Ok(()) } else { self.write_blocks(|_| true) };
        let cut = if self.failed { self.cut() } else { Ok(()) };
        let cues_at = self.whole - self.segment_start;
        let cues = self.index.encode().and_then(|cues| self.write_cues(&cues));
        let segment = self.whole - self.segment_start;
        self.head.complete = Some(Complete { segment, cues: (segment > cues_at).then_some(cues_at) });
        written.and(cut).and(cues)
    }

    /// What is in the file, if not everything could be written.
    pub(crate) fn shortened(&self) -> Option<Kept> {
        self.failed.then_some(self.kept)
    }

    /// Completes the file, which plays so long, once it has [ended](Self::end).
    pub(crate) fn finish(&mut self, duration: Duration, tags: Tags) -> io::Result<()> {
        self.head.set_duration(duration);
        self.head.tags = tags;
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

    fn push(&mut self, block: Block) -> io::Result<()> {
        self.newest[usize::from(block.track)] = block.at;
        self.bytes += block.data.len();
        self.blocks.push(block);
        if self.bytes > MAX_CLUSTER { self.write_blocks(|_| true) } else { Ok(()) }
    }

    /// Writes those blocks, in the order of their times, as clusters.
    fn write_blocks(&mut self, which: impl Fn(&Block) -> bool) -> io::Result<()> {
        if self.failed {
            self.blocks.clear();
            self.bytes = 0;
            return Ok(());
        }
        let mut blocks: Vec<_> = self.blocks.extract_if(.., |block| which(block)).collect();
        self.bytes = self.blocks.iter().map(|block| block.data.len()).sum();
        blocks.sort_by_key(|block| (block.at, block.track));
        blocks
            .chunk_by(|first, second| second.at / MAX_SPAN == first.at / MAX_SPAN)
            .try_for_each(|cluster| self.write_cluster(cluster))
    }

    fn write_cluster(&mut self, blocks: &[Block]) -> io::Result<()> {
        let Some(start) = blocks.first().map(|block| block.at) else { return Ok(()) };
        self.cluster.clear();
        encode_cluster(&mut self.cluster, start, blocks);
        // The head may have been written again since, or half of it.
        let placed = self.sink.seek(SeekFrom::Start(self.whole));
        placed.and_then(|_| self.sink.write_all(&self.cluster)).inspect_err(|_| self.failed = true)?;
        if let Some(keyframe) = blocks.iter().find(|block| block.track == VIDEO && block.keyframe) {
            self.index.push(keyframe.at as u64, self.whole - self.segment_start);
        }
        self.whole += self.cluster.len() as u64;
        for block in blocks {
            self.kept.push(block);
        }
        self.sink.sync(SyncPoint::Page).inspect_err(|_| self.failed = true)
    }

    /// Writes the cues, or nothing of them.
    fn write_cues(&mut self, cues: &[u8]) -> io::Result<()> {
        let placed = self.sink.seek(SeekFrom::Start(self.whole));
        let written = placed.and_then(|_| self.sink.write_all(cues));
        if written.is_ok() {
            self.whole += cues.len() as u64;
            return Ok(());
        }
        self.cut().and(written)
    }

    /// Cuts half a cluster off.
    fn cut(&mut self) -> io::Result<()> {
        self.sink.truncate(self.whole)
    }

    fn write_head_again(&mut self) -> io::Result<()> {
        let head = self.head.encode(Some(self.head_len))?;
        self.sink.seek(SeekFrom::Start(0))?;
        self.sink.write_all(&head)
    }
}

/// Where keyframes are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Time in milliseconds, and where in the segment the cluster is.
    entries: Vec<(u64, u64)>,
}

impl Index {
    /// Adds a keyframe.
    pub(crate) fn push(&mut self, at: u64, cluster: u64) {
        if self.entries.len() == MAX_CUES {
            let mut is_kept = false;
            self.entries.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
        self.entries.push((at, cluster));
    }

    /// The element, or nothing if there is nothing to be found.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        if self.entries.is_empty() {
            return Ok(Vec::new());
        }
        let cue_point = self.entries.iter().map(|&(at, cluster)| cue_point(at, cluster)).collect();
        let mut body = Vec::new();
        Cues { cue_point, ..Cues::default() }.encode_body(&mut body).map_err(io::Error::other)?;
        let mut out = CUES.to_vec();
        put_size(&mut out, body.len() as u64);
        out.extend_from_slice(&body);
        Ok(out)
    }
}

fn cue_point(at: u64, cluster: u64) -> CuePoint {
    let position = CueTrackPositions {
        cue_track: CueTrack(VIDEO.into()),
        cue_cluster_position: CueClusterPosition(cluster),
        ..CueTrackPositions::default()
    };
    CuePoint { cue_time: CueTime(at), cue_track_positions: vec![position], ..CuePoint::default() }
}

fn encode_cluster(out: &mut Vec<u8>, start: i64, blocks: &[Block]) {
    let len = 2 + 8 + blocks.iter().map(|block| 1 + 8 + 4 + block.data.len()).sum::<usize>();
    out.extend_from_slice(&CLUSTER);
    put_size(out, len as u64);
    out.extend_from_slice(&[TIMESTAMP, 0x88]);
    out.extend_from_slice(&start.to_be_bytes());
    for block in blocks {
        out.push(SIMPLE_BLOCK);
        put_size(out, block.data.len() as u64 + 4);
        out.push(0x80 | block.track);
        out.extend_from_slice(&((block.at - start) as i16).to_be_bytes());
        out.push(if block.keyframe { 0x80 } else { 0 });
        out.extend_from_slice(&block.data);
    }
}

/// A size in eight bytes, which can say any.
fn put_size(out: &mut Vec<u8>, size: u64) {
    out.extend_from_slice(&(1 << 56 | size).to_be_bytes());
}

fn put(element: &impl WriteTo, out: &mut Vec<u8>) -> io::Result<()> {
    element.write_to(out).map_err(io::Error::other)
}

/// The element at the beginning of `bytes`: its id, its body and what follows. `None` if it is not whole or its size unknown.
pub(crate) fn split_element(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let mut rest = bytes;
    let header = Header::read_from(&mut rest).ok()?;
    let size = usize::try_from(*header.size).ok().filter(|_| !header.size.is_unknown)?;
    let (body, after) = rest.split_at_checked(size)?;
    Some((*header.id, body, after))
}

fn ebml() -> Ebml {
    Ebml {
        ebml_version: Some(EbmlVersion(1)),
        ebml_read_version: Some(EbmlReadVersion(1)),
        ebml_max_id_length: EbmlMaxIdLength(4),
        ebml_max_size_length: EbmlMaxSizeLength(8),
        doc_type: Some(DocType("webm".to_owned())),
        doc_type_version: Some(DocTypeVersion(4)),
        doc_type_read_version: Some(DocTypeReadVersion(2)),
        ..Ebml::default()
    }
}

/// The video track, with a picture of the least size until a keyframe says its own.
fn video_track() -> TrackEntry {
    TrackEntry {
        track_number: TrackNumber(VIDEO.into()),
        track_uid: TrackUid(VIDEO.into()),
        track_type: TrackType(1),
        codec_id: CodecId("V_VP8".to_owned()),
        video: Some(Video { pixel_width: PixelWidth(16), pixel_height: PixelHeight(16), ..Video::default() }),
        ..any_track()
    }
}

fn audio_track(channels: u8) -> TrackEntry {
    TrackEntry {
        track_number: TrackNumber(AUDIO.into()),
        track_uid: TrackUid(AUDIO.into()),
        track_type: TrackType(2),
        codec_id: CodecId("A_OPUS".to_owned()),
        codec_private: Some(CodecPrivate(opus_head(channels).into())),
        codec_delay: CodecDelay(u64::from(PRE_SKIP) * 1_000_000_000 / u64::from(RATE)),
        // What a decoder needs to hear before it is right (RFC 7845 4.6).
        seek_pre_roll: SeekPreRoll(80_000_000),
        audio: Some(Audio {
            sampling_frequency: SamplingFrequency(RATE.into()),
            channels: Channels(channels.into()),
            ..Audio::default()
        }),
        ..any_track()
    }
}

fn any_track() -> TrackEntry {
    TrackEntry {
        flag_enabled: FlagEnabled(1),
        flag_default: FlagDefault(1),
        flag_lacing: FlagLacing(0),
        language: Language("und".to_owned()),
        ..TrackEntry::default()
    }
}

fn seek_to_cues(at: u64) -> Seek {
    Seek { seek_id: SeekId(CUES.to_vec().into()), seek_position: SeekPosition(at), crc32: None, void: None }
}

fn tags_element(tags: &Tags) -> mkv_element::prelude::Tags {
    let simple_tag = tags.0.iter().map(|(name, value)| SimpleTag {
        tag_name: TagName(name.clone()),
        tag_language: TagLanguage("und".to_owned()),
        tag_string: Some(TagString(value.clone())),
        ..SimpleTag::default()
    });
    let tag = mkv_element::prelude::Tag { simple_tag: simple_tag.collect(), ..Default::default() };
    mkv_element::prelude::Tags { tag: vec![tag], ..Default::default() }
}

fn tags_of(element: &mkv_element::prelude::Tags) -> Tags {
    let all = element.tag.iter().flat_map(|tag| &tag.simple_tag);
    let pairs = all.map(|tag| (tag.tag_name.to_string(), tag.tag_string.as_deref().unwrap_or_default().to_owned()));
    Tags(pairs.collect())
}

/// A block of a cluster that lies in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadBlock<'a> {
    pub(crate) track: u8,
    /// In milliseconds.
    pub(crate) at: u64,
    pub(crate) keyframe: bool,
    pub(crate) data: &'a [u8],
}

/// The blocks of a cluster's body.
pub(crate) fn read_cluster(mut body: &[u8]) -> impl Iterator<Item = ReadBlock<'_>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        loop {
            let (id, element, after) = split_element(body)?;
            body = after;
            match (id, element) {
                (id, element) if id == *mkv_element::prelude::Timestamp::ID => {
                    start = element.iter().fold(0_i64, |sum, &byte| sum << 8 | i64::from(byte));
                }
                (id, [track, high, low, flags, data @ ..]) if id == *mkv_element::prelude::SimpleBlock::ID => {
                    let at = start.saturating_add(i16::from_be_bytes([*high, *low]).into()).max(0) as u64;
                    return Some(ReadBlock { track: track & 0x7f, at, keyframe: flags & 0x80 != 0, data });
                }
                _ => {}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, io::Cursor};

    use super::*;
    use crate::vp8::Frame;

    fn unit(millis: u64) -> Unit {
        let (position, arrival) = (millis * 48, Duration::from_millis(millis));
        Unit { position, samples: 960, arrival, sent: true, packet: Cow::Borrowed(&[0xf8, 0xff, 0xfe]) }
    }

    fn picture(millis: u64, keyframe: bool, len: usize) -> Picture {
        let at = Duration::from_millis(millis);
        let keyframe = keyframe.then_some((640, 480));
        let data = vec![1; len];
        Picture { at, frame: Frame { position: 0, arrival: at, keyframe, after_gap: false, packets: 1, data } }
    }

    fn file(channels: Option<u8>) -> WebmFile<Cursor<Vec<u8>>> {
        WebmFile::new(Cursor::new(Vec::new()), channels, Tags::default()).expect("memory")
    }

    /// Ends a file and takes it apart: its head, and the blocks of each of its clusters as track and time.
    fn read(mut file: WebmFile<Cursor<Vec<u8>>>) -> (Head, Vec<Vec<(u8, u64)>>) {
        file.end().expect("memory");
        file.finish(Duration::from_secs(1), Tags::default()).expect("memory");
        let bytes = file.into_sink().into_inner();
        let (head, len) = Head::decode(&bytes).expect("ours");
        let start = head.segment_start().expect("ours");
        assert_eq!(head.complete.map(|complete| complete.segment + start), Some(bytes.len() as u64));
        let (mut rest, mut clusters) = (&bytes[len..], Vec::new());
        while let Some((id, body, after)) = split_element(rest) {
            if id == *mkv_element::prelude::Cluster::ID {
                clusters.push(read_cluster(body).map(|block| (block.track, block.at)).collect());
            }
            rest = after;
        }
        assert!(rest.is_empty());
        (head, clusters)
    }

    #[test]
    fn what_is_known_later_is_written_into_the_head_at_its_old_length() {
        let mut file = file(Some(1));
        let before = file.head_len;
        file.push_audio(&unit(0)).expect("memory");
        file.push_video(picture(10, true, 100)).expect("memory");
        file.set_channels(2).expect("memory");
        let (head, clusters) = read(file);
        assert_eq!((head.picture(), head.channels()), ((640, 480), Some(2)));
        assert_eq!(clusters, [[(AUDIO, 0), (VIDEO, 10)]]);
        let mut complete = head;
        complete.complete = Some(Complete { segment: 1 << 40, cues: Some(1 << 40) });
        assert_eq!(complete.encode(Some(before)).expect("it fits").len(), before);
    }

    #[test]
    fn a_cluster_waits_for_the_other_track_but_not_long() {
        let mut file = file(Some(1));
        file.push_video(picture(0, true, 10)).expect("memory");
        for millis in (0..800).step_by(20) {
            file.push_audio(&unit(millis)).expect("memory");
        }
        let head = file.whole;
        file.flush(Duration::from_millis(699)).expect("memory");
        assert_eq!(file.whole, head);
        file.flush(Duration::from_millis(800)).expect("memory");
        let (_, clusters) = read(file);
        assert_eq!(clusters[0].last(), Some(&(AUDIO, 300)), "the younger waited");
        assert_eq!(clusters[1].first(), Some(&(AUDIO, 320)));
    }

    #[test]
    fn frames_of_any_size_are_read_back() {
        for len in [0, 1, 122, 123, 124, 16_378, 16_379, 16_380, 16_383, 100_000] {
            let mut file = file(None);
            file.push_video(picture(0, true, len)).expect("memory");
            file.push_video(picture(33, false, 1)).expect("memory");
            assert_eq!(read(file).1, [[(VIDEO, 0), (VIDEO, 33)]], "{len}");
        }
    }

    #[test]
    fn a_long_recording_has_a_coarser_index() {
        let mut index = Index::default();
        for at in 0..100_000 {
            index.push(at, at);
        }
        assert!(index.entries.len() <= MAX_CUES);
        assert!(index.entries.is_sorted() && index.entries[0] == (0, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut file = file(None);
        for frame in 0..100 {
            file.push_video(picture(frame, frame == 0, 100_000)).expect("memory");
            assert!(file.bytes <= MAX_CLUSTER);
        }
    }
}
