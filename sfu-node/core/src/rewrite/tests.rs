//! The rewriter on calm and on broken sources, against what a subscriber must see.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

const START: u64 = 1 << 16;

fn rewriter() -> Rewriter {
    Rewriter::new(90_000, 100, 5_000)
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

proptest! {
    /// Whatever arrives in whatever order: no outgoing index twice, the order of the source kept, and every number looked
    /// up as long as it is within reach.
    #[test]
    fn indices_are_unique_ordered_and_found_again(steps in any_steps()) {
        let (mut rewriter, now) = (rewriter(), Instant::now());
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
        padding in prop::collection::hash_set(1_u64..300, 0..60),
        delays in prop::collection::vec(0_u64..30, 300),
    ) {
        let (mut rewriter, now) = (rewriter(), Instant::now());
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
        let complete: Vec<u64> = (100..100 + 300 - padding.len() as u64).collect();
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

    /// Timestamps keep their distances across the wrap.
    #[test]
    fn timestamps_keep_their_distances(first in any::<u32>(), step in any::<u32>()) {
        let (mut rewriter, now) = (rewriter(), Instant::now());
        let one = rewriter.forward(now, START, first, None).expect("placed").timestamp;
        let two = rewriter.forward(now, START + 1, first.wrapping_add(step), None).expect("placed").timestamp;
        prop_assert_eq!(two.wrapping_sub(one), step);
    }
}
