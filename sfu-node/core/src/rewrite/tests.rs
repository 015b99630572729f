//! The rewriter on calm and on broken sources, against what a subscriber must see.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

const START: u64 = 1 << 16;

fn rewriter() -> Rewriter {
    rewriter_from(100)
}

fn rewriter_from(first: u16) -> Rewriter {
    Rewriter::new(90_000, first, 5_000)
}

/// A first number: mostly so near to the last one that what follows wraps.
fn any_first() -> impl Strategy<Value = u16> {
    prop_oneof![3 => 65_236..=u16::MAX, 1 => any::<u16>()]
}

fn index_of(rewriter: &mut Rewriter, now: Instant, seq: u64) -> Option<u64> {
    rewriter.forward(now, seq, 0, None).map(|outgoing| outgoing.index)
}

fn descriptor(picture_id: u16, tl0_pic_idx: u8) -> Vp8Descriptor {
    let payload = [0x90, 0xc0, 0x80 | (picture_id >> 8) as u8, picture_id as u8, tl0_pic_idx, 0];
    Vp8Descriptor::parse(&payload).expect("a whole descriptor")
}

#[test]
fn the_first_packet_gets_the_numbers_given() {
    let outgoing = rewriter().forward(Instant::now(), START + 7, 123, None).expect("the first");
    assert_eq!(outgoing, Outgoing { index: 100, timestamp: 5_000, picture: None });
}

#[test]
fn skipped_packets_leave_no_gap_and_lost_ones_keep_their_place() {
    let (mut rewriter, now) = (rewriter(), Instant::now());
    assert_eq!(index_of(&mut rewriter, now, START), Some(100));
    rewriter.skip(START + 1);
    assert_eq!(index_of(&mut rewriter, now, START + 2), Some(101));
    assert_eq!(index_of(&mut rewriter, now, START + 4), Some(103));
    assert_eq!(index_of(&mut rewriter, now, START + 3), Some(102));
    assert_eq!(index_of(&mut rewriter, now, START + 1), None, "skipped for good");
    assert_eq!(rewriter.source_of(101), Some(START + 2));
    assert_eq!(rewriter.source_of(102), Some(START + 3));
}

#[test]
fn a_duplicate_is_not_placed_twice() {
    let (mut rewriter, now) = (rewriter(), Instant::now());
    for seq in [0, 1, 2] {
        assert!(index_of(&mut rewriter, now, START + seq).is_some());
    }
    for seq in [0, 1, 2] {
        assert_eq!(index_of(&mut rewriter, now, START + seq), None);
    }
}

#[test]
fn padding_that_arrives_out_of_order_leaves_no_gap_either() {
    let (mut rewriter, now) = (rewriter(), Instant::now());
    assert_eq!(index_of(&mut rewriter, now, START), Some(100));
    rewriter.skip(START + 2);
    rewriter.skip(START + 1);
    assert_eq!(index_of(&mut rewriter, now, START + 3), Some(101));
    assert_eq!(rewriter.source_of(101), Some(START + 3));
}

#[test]
fn what_came_before_the_first_packet_is_refused() {
    let (mut rewriter, now) = (rewriter(), Instant::now());
    rewriter.skip(START - 5);
    assert_eq!(index_of(&mut rewriter, now, START), Some(100));
    assert_eq!(index_of(&mut rewriter, now, START - 1), None);
    rewriter.skip(START - 1);
    assert_eq!(index_of(&mut rewriter, now, START + 1), Some(101));
    assert_eq!(rewriter.source_of(99), None);
    assert_eq!(rewriter.source_of(102), None, "not sent yet");
}

#[test]
fn a_long_jump_goes_on_without_a_gap() {
    let (mut rewriter, now) = (rewriter(), Instant::now());
    assert_eq!(index_of(&mut rewriter, now, START), Some(100));
    assert_eq!(index_of(&mut rewriter, now, START + 1_024), Some(1_124), "the longest gap waited for");
    assert_eq!(index_of(&mut rewriter, now, START + 1_024 + 40_000), Some(1_125));
    assert_eq!(index_of(&mut rewriter, now, START + 1_023 + 40_000), None);
    assert_eq!(rewriter.source_of(1_125), Some(START + 1_024 + 40_000));
    assert_eq!(rewriter.source_of(1_124), None);
}

#[test]
fn the_rollover_counter_goes_up_at_the_wrap() {
    let mut rewriter = Rewriter::new(48_000, 65_534, 0);
    let now = Instant::now();
    let sent: Vec<_> = (0..4)
        .map(|seq| rewriter.forward(now, START + seq, 0, None).expect("in order"))
        .map(|o| (o.roc(), o.seq()))
        .collect();
    assert_eq!(sent, [(0, 65_534), (0, 65_535), (1, 0), (1, 1)]);
    assert_eq!(rewriter.source_of(65_535), Some(START + 1));
    assert_eq!(rewriter.source_of(0), Some(START + 2));
}

#[test]
fn nothing_is_sent_when_the_indices_are_used_up() {
    let mut rewriter = rewriter();
    rewriter.next_index = INDEX_END - WINDOW - 1;
    let now = Instant::now();
    assert!(index_of(&mut rewriter, now, START).is_some());
    assert_eq!(index_of(&mut rewriter, now, START + 1), None);
}

#[test]
fn a_new_source_continues_time_by_the_clock() {
    let (mut rewriter, now) = (rewriter(), Instant::now());
    let first = rewriter.forward(now, START, 1_000, None).expect("placed");
    let second = rewriter.forward(now, START + 1, u32::MAX - 10, None).expect("placed");
    assert_eq!(second.timestamp.wrapping_sub(first.timestamp), (u32::MAX - 10).wrapping_sub(1_000));
    rewriter.switch_source();
    assert!(!rewriter.has_source());
    let later = now + Duration::from_millis(100);
    let third = rewriter.forward(later, 7 * START, 42, None).expect("placed");
    assert_eq!(third.index, second.index + 1);
    assert_eq!(third.timestamp.wrapping_sub(second.timestamp), 9_000);
    assert_eq!(rewriter.timestamp_of(42 + 90), third.timestamp + 90);
    rewriter.switch_source();
    let fourth = rewriter.forward(later, START, 99, None).expect("placed");
    assert_eq!(fourth.timestamp.wrapping_sub(third.timestamp), 1, "no two frames share a timestamp");
    assert_eq!(rewriter.source_of(third.seq()), None, "of another source");
}

#[test]
fn a_new_source_continues_the_pictures() {
    let (mut rewriter, now) = (rewriter(), Instant::now());
    let forward = |rewriter: &mut Rewriter, seq, vp8| {
        rewriter.forward(now, seq, 0, Some(&vp8)).and_then(|outgoing| outgoing.picture).expect("a picture")
    };
    let numbers = |picture_id, tl0_pic_idx| PictureNumbers { picture_id, tl0_pic_idx };
    assert_eq!(forward(&mut rewriter, START, descriptor(0x7ffe, 254)), numbers(0x7ffe, 254));
    assert_eq!(forward(&mut rewriter, START + 1, descriptor(0x7fff, 255)), numbers(0x7fff, 255));
    rewriter.switch_source();
    assert_eq!(forward(&mut rewriter, START, descriptor(500, 9)), numbers(0, 0));
    assert_eq!(forward(&mut rewriter, START + 2, descriptor(501, 10)), numbers(1, 1));
    // The same frame's packet, late: the same numbers.
    assert_eq!(forward(&mut rewriter, START + 1, descriptor(500, 9)), numbers(0, 0));
    assert_eq!(rewriter.picture_of(&descriptor(501, 10)), Some(numbers(1, 1)));
    assert_eq!(rewriter.picture_of(&Vp8Descriptor::parse(&[0x10]).expect("the shortest")), None);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Forward,
    Skip,
    Switch,
}

/// Steps around the newest packet: mostly on, sometimes back, now and then far.
fn any_steps() -> impl Strategy<Value = Vec<(Event, i64)>> {
    let event = prop_oneof![12 => Just(Event::Forward), 3 => Just(Event::Skip), 1 => Just(Event::Switch)];
    let step = prop_oneof![10 => 1_i64..4, 5 => -40_i64..40, 2 => -1_200_i64..1_200, 1 => 0_i64..40_000];
    prop::collection::vec((event, step), 1..500)
}

/// How an encoder numbers its frames, and what becomes of their packets on the way here.
#[derive(Clone, Debug)]
struct Camera {
    /// Picture ids of 15 bits instead of 7.
    long: bool,
    picture_id: u16,
    /// TL0PICIDX, KEYIDX and the number of temporal layers, all of which one extension carries or none.
    layered: Option<(u8, u8, usize)>,
    /// Packets of each frame.
    frames: Vec<usize>,
    /// By how many packets each is overtaken, and how many copies arrive.
    fates: Vec<(usize, u8)>,
}

fn any_camera() -> impl Strategy<Value = Camera> {
    // Mostly so near to its end that a few frames reach it.
    let picture_id = prop_oneof![4 => (0_u16..40).prop_map(|left| 0x7fff - left), 1 => any::<u16>()];
    let tl0_pic_idx = prop_oneof![4 => 230_u8..=255, 1 => any::<u8>()];
    let layered = prop::option::weighted(0.8, (tl0_pic_idx, 0_u8..32, 1_usize..=3));
    let frames = prop::collection::vec(1_usize..4, 1..80);
    let fate = (prop_oneof![3 => Just(0), 2 => 0_usize..12], prop_oneof![1 => Just(0), 6 => Just(1), 2 => Just(2)]);
    (any::<bool>(), picture_id, layered, frames, prop::collection::vec(fate, 240))
        .prop_map(|(long, picture_id, layered, frames, fates)| Camera { long, picture_id, layered, frames, fates })
}

impl Camera {
    const fn mask(&self) -> u16 {
        if self.long { 0x7fff } else { 0x7f }
    }

    /// A frame's temporal layer, and by how much its TL0PICIDX is ahead of the first one.
    fn layer(&self, frame: usize) -> (u8, u8) {
        let pattern: &[u8] = match self.layered.map_or(1, |(.., layers)| layers) {
            1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        };
        (pattern[frame % pattern.len()], (frame / pattern.len()) as u8)
    }

    fn payload(&self, frame: usize, begins: bool, number: usize) -> Vec<u8> {
        let picture_id = self.picture_id.wrapping_add(frame as u16) & self.mask();
        let mut payload = vec![if begins { 0x90 } else { 0x80 }, if self.layered.is_some() { 0xf0 } else { 0x80 }];
        if self.long {
            payload.extend((picture_id | 0x8000).to_be_bytes());
        } else {
            payload.push(picture_id as u8);
        }
        if let Some((tl0_pic_idx, key_idx, _)) = self.layered {
            let (layer, base_frames) = self.layer(frame);
            let key_idx = key_idx.wrapping_add((frame / 5) as u8) & 0x1f;
            payload.extend([tl0_pic_idx.wrapping_add(base_frames), layer << 6 | 0x20 | key_idx]);
        }
        payload.extend((number as u32).to_be_bytes());
        payload
    }

    /// Position, frame and payload of every packet, in the order of arrival.
    fn arrivals(&self) -> Vec<(u64, usize, Vec<u8>)> {
        let packets =
            self.frames.iter().enumerate().flat_map(|(frame, count)| (0..*count).map(move |part| (frame, part)));
        let mut arrivals = Vec::new();
        for ((number, (frame, part)), (delay, copies)) in packets.enumerate().zip(&self.fates) {
            let payload = self.payload(frame, part == 0, number);
            for copy in 0..usize::from(*copies) {
                arrivals.push((number + delay + 3 * copy, (number as u64, frame, payload.clone())));
            }
        }
        arrivals.sort_by_key(|(at, _)| *at);
        arrivals.into_iter().map(|(_, packet)| packet).collect()
    }
}

proptest! {
    /// Whatever arrives in whatever order: no outgoing index twice, the order of the source kept, and every number looked
    /// up as long as it is within reach.
    #[test]
    fn indices_are_unique_ordered_and_found_again(first in any_first(), steps in any_steps()) {
        let (mut rewriter, now) = (rewriter_from(first), Instant::now());
        let mut used = HashSet::new();
        let mut placed: HashMap<u64, u64> = HashMap::new();
        let mut newest = START * 4;
        for (event, step) in steps {
            let seq = newest.saturating_add_signed(step);
            newest = newest.max(seq);
            match event {
                Event::Switch => {
                    rewriter.switch_source();
                    placed.clear();
                }
                Event::Skip => rewriter.skip(seq),
                Event::Forward => {
                    if let Some(index) = index_of(&mut rewriter, now, seq) {
                        prop_assert!(used.insert(index), "index {} was used twice", index);
                        for (other_seq, other_index) in &placed {
                            prop_assert_eq!(*other_seq < seq, *other_index < index);
                        }
                        placed.insert(seq, index);
                        prop_assert_eq!(rewriter.source_of(index as u16), Some(seq));
                    }
                }
            }
        }
        for (seq, index) in placed {
            let found = rewriter.source_of(index as u16);
            prop_assert!(found == Some(seq) || found.is_none());
        }
    }

    /// Late packets fill their gaps: once everything has arrived, the subscriber has every number exactly once.
    #[test]
    fn a_reordered_source_comes_out_complete(
        first in any_first(),
        padding in prop::collection::hash_set(1_u64..300, 0..60),
        delays in prop::collection::vec(0_u64..30, 300),
    ) {
        let (mut rewriter, now) = (rewriter_from(first), Instant::now());
        // Padding is known at once here: what is closed too late leaves a gap by design.
        let mut arrivals: Vec<_> = (0..300_u64)
            .map(|seq| (if padding.contains(&seq) || seq == 0 { seq } else { seq + delays[seq as usize] }, seq))
            .collect();
        arrivals.sort_unstable();
        let mut indices = Vec::new();
        for (_, seq) in arrivals {
            if padding.contains(&seq) {
                rewriter.skip(START + seq);
            } else {
                indices.push(index_of(&mut rewriter, now, START + seq).expect("within reach"));
            }
        }
        indices.sort_unstable();
        let complete: Vec<u64> = (u64::from(first)..).take(300 - padding.len()).collect();
        // Padding overtaken by a media packet could not be closed, and its number stays unused.
        let mut unused = 0;
        for pair in indices.windows(2) {
            unused += pair[1] - pair[0] - 1;
        }
        prop_assert_eq!(indices.len(), complete.len());
        prop_assert!(unused <= padding.len() as u64);
        if padding.is_empty() {
            prop_assert_eq!(indices, complete);
        }
    }

    /// Picture numbers wrap, arrive late, twice or never, and begin anew with every source: a subscriber sees one line of them,
    /// each frame under one number, and nothing else of the descriptor changed.
    #[test]
    fn pictures_make_one_line_whatever_their_sources_count(cameras in prop::collection::vec(any_camera(), 1..5)) {
        let (mut rewriter, now) = (rewriter(), Instant::now());
        // The newest picture that the subscriber knows, and whether it was numbered in layers.
        let mut last: Option<(PictureNumbers, bool)> = None;
        for camera in cameras {
            rewriter.switch_source();
            let mut first: Option<(u64, usize, PictureNumbers)> = None;
            let mut forwarded = HashMap::new();
            for (seq, frame, payload) in camera.arrivals() {
                let descriptor = Vp8Descriptor::parse(&payload).expect("a whole descriptor");
                let outgoing = rewriter.forward(now, START + seq, 0, Some(&descriptor));
                let is_news = !forwarded.contains_key(&seq) && first.is_none_or(|(first, ..)| seq > first);
                prop_assert_eq!(outgoing.is_some(), is_news, "packet {} of {:?}", seq, &forwarded);
                let Some(outgoing) = outgoing else { continue };
                let numbers = outgoing.picture.expect("it has picture numbers");
                let mut rewritten = payload.clone();
                descriptor.rewrite(&mut rewritten, numbers);
                let seen = Vp8Descriptor::parse(&rewritten).expect("as long as before");
                let mask = camera.mask();
                let (_, first_frame, begin) = *first.get_or_insert((seq, frame, numbers));
                let ahead = frame.wrapping_sub(first_frame) as u16;
                let picture_id = begin.picture_id.wrapping_add(ahead) & mask;
                let base_frames = camera.layer(frame).1.wrapping_sub(camera.layer(first_frame).1);
                let tl0_pic_idx = camera.layered.map(|_| begin.tl0_pic_idx.wrapping_add(base_frames));
                let expected = Vp8Descriptor {
                    picture_id: Some(PictureId { value: picture_id, long: camera.long }),
                    tl0_pic_idx,
                    ..descriptor
                };
                prop_assert_eq!(seen, expected, "frame {} after {}", frame, first_frame);
                prop_assert_eq!(&rewritten[seen.len..], &payload[descriptor.len..]);
                if let (true, Some((last, was_layered))) = (forwarded.is_empty(), last) {
                    prop_assert_eq!(numbers.picture_id, last.picture_id.wrapping_add(1) & mask, "the next picture");
                    if was_layered && camera.layered.is_some() {
                        let base = u8::from(camera.layer(frame).0 == 0);
                        prop_assert_eq!(numbers.tl0_pic_idx, last.tl0_pic_idx.wrapping_add(base));
                    }
                }
                forwarded.insert(seq, (descriptor, numbers));
            }
            for (descriptor, numbers) in forwarded.values() {
                prop_assert_eq!(rewriter.picture_of(descriptor), Some(*numbers), "sent again under other numbers");
            }
            let newest = forwarded.into_iter().max_by_key(|(seq, _)| *seq);
            last = newest.map(|(_, (_, numbers))| (numbers, camera.layered.is_some())).or(last);
        }
    }

    /// Timestamps keep their distances across the wrap.
    #[test]
    fn timestamps_keep_their_distances(first in any::<u32>(), step in any::<u32>()) {
        let (mut rewriter, now) = (rewriter(), Instant::now());
        let one = rewriter.forward(now, START, first, None).expect("placed").timestamp;
        let two = rewriter.forward(now, START + 1, first.wrapping_add(step), None).expect("placed").timestamp;
        prop_assert_eq!(two.wrapping_sub(one), step);
    }
}
