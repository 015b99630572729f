//! What recording costs for each packet.
#![allow(missing_docs, reason = "criterion's macros")]

use std::{
    hint::black_box,
    io::{self, Seek, SeekFrom, Write},
    time::{Duration, SystemTime},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use recording::{AudioFormat, Kind, Packet, Recording, Sink, StreamInfo, SyncPoint, VideoFormat};

/// A file that keeps nothing.
#[derive(Default)]
struct Nowhere(u64);

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += black_box(bytes).len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Ok(self.0)
    }
}

impl Sink for Nowhere {
    fn sync(&mut self, _: SyncPoint) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

fn info() -> StreamInfo {
    let text = || "x".to_owned();
    let (room, uid, mid, recording, encoder) = (text(), text(), text(), text(), text());
    StreamInfo { room, uid, mid, recording, started: SystemTime::UNIX_EPOCH, encoder }
}

fn audio(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("audio");
    group.throughput(Throughput::Elements(1));
    let audio = Some((AudioFormat { channels: 2 }, Nowhere::default()));
    let mut recording = Recording::new(&info(), audio, None).expect("it takes all");
    let payload = [&[0xfc][..], &[7; 160]].concat();
    let mut number = 0_u32;
    group.bench_function("20 ms", |bench| {
        bench.iter(|| {
            number += 1;
            let now = Duration::from_millis(u64::from(number) * 20);
            let (index, timestamp) = (u64::from(number), number.wrapping_mul(960));
            let packet = Packet { index, timestamp, source: 0, marker: false, keyframe: false, payload: &payload };
            recording.handle_packet(now, Kind::Audio, packet).expect("it takes all");
            if number.is_multiple_of(12) {
                recording.handle_timeout(now).expect("it takes all");
            }
        });
    });
    group.finish();
}

fn video(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("video");
    group.throughput(Throughput::Elements(1));
    let mut recording =
        Recording::new(&info(), None, Some((VideoFormat::Vp8, Nowhere::default()))).expect("it takes all");
    let keyframe = [&[0x10, 0, 0, 0, 0x9d, 1, 0x2a, 0x80, 2, 0xe0, 1][..], &[7; 1_100]].concat();
    let more = [&[0x00][..], &[7; 1_100]].concat();
    let mut number = 0_u32;
    group.bench_function("1,100 bytes, 4 a frame", |bench| {
        bench.iter(|| {
            number += 1;
            let now = Duration::from_millis(u64::from(number) * 8);
            let (index, timestamp) = (u64::from(number), (number / 4).wrapping_mul(2_880));
            let payload = if number.is_multiple_of(4) { &keyframe } else { &more };
            let marker = number % 4 == 3;
            let packet = Packet { index, timestamp, source: 0, marker, keyframe: false, payload };
            recording.handle_packet(now, Kind::Video, packet).expect("it takes all");
            if number.is_multiple_of(30) {
                recording.handle_timeout(now).expect("it takes all");
            }
        });
    });
    group.finish();
}

criterion_group!(benches, audio, video);
criterion_main!(benches);
